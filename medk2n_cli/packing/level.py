"""A synthesised MR contrast is normalised as an acquired one is: the median of the deep head at 0.5.

How bright tissue is in the missing contrast no input tells for certain, and a network that guesses wrong is wrong in every
voxel. Where the median belongs is known beforehand, though: the truth is normalised by its own (`packing.normalise`). One
factor for the whole volume puts it there; zero, which is air, stays where it is.

Measured with weights trained on simulations alone, on nine real studies of three origins, mean R2 over all subsets: the
network's own level 0.269, by a factor 0.295, by an offset 0.284, by half of either 0.287 and 0.280.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelOutput
from medk2n_cli.packing.normalise import MEDIAN_VALUE

FloatArray = NDArray[np.float32]
MOST = 2.0  # an image that would need more than this has not the expected histogram at all


def level_of(modality: Modality, made: FloatArray, deep: NDArray[np.bool_]) -> float:
    """The factor, in [0.5, 2], that brings `made` to its level; 1 for ADC, whose scale is fixed.

    Args:
        modality: what `made` shows.
        made: (D, H, W) on the network's scale.
        deep: (D, H, W) the deep head, from the inputs alone; where it is empty the factor is 1.
    """
    if modality.is_quantitative or not deep.any():
        return 1.0
    median = max(float(np.median(made[deep])), 1e-6)
    return float(np.clip(MEDIAN_VALUE / median, 1 / MOST, MOST))


def levelled(output: ModelOutput, deep: NDArray[np.bool_]) -> ModelOutput:
    """Every MR target of `output` at its level, its expected error with it; deep: (D, H, W).

    Raises:
        ValueError: it is at its level already.
    """
    if output.level:
        raise ValueError("a second factor would hide the first")
    factors = [level_of(m, made, deep) for m, made in zip(output.want, output.synthesised, strict=True)]
    by = np.array(factors, np.float32)[:, None, None, None]
    return replace(output, synthesised=output.synthesised * by, expected_error=output.expected_error * by, level=tuple(factors))
