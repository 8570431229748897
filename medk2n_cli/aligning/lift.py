"""Images processed before they came here, whose values reach far below zero: air is brought back to zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume

_FAR_BELOW = 0.1  # of the bright end; noise about zero and the ringing of an interpolation stay above that
_MASKED = 0.1  # share of voxels that are exactly zero once somebody cut the brain out
NOTE = "its values reach far below zero, as z-scored images' do; the lowest was taken for black."


def lifted(modality: Modality, volume: Volume) -> tuple[Volume, str]:
    """`volume` without values below zero, and a sentence where that took more than clipping.

    The head is sought, and what no field of view covers is filled, with zero as air. Where many voxels are exactly
    zero a mask was applied, and only what lies inside it is lifted. Maps with a unit (ADC) are left as they are.
    """
    low, high = np.percentile(volume.array, [0.5, 99.5])
    if modality.is_quantitative or not low < -_FAR_BELOW * abs(high):
        return volume, ""
    inside = volume.array != 0
    if (~inside).mean() < _MASKED:
        inside[:] = True
    raised = np.where(inside, np.maximum(volume.array - np.float32(low), 0), 0)
    return replace(volume, array=raised), NOTE
