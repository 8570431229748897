"""How the arbitrary scale of an MR contrast is removed, and how the network's scale is given a unit again.

MR contrasts: the 5th percentile of the deep head becomes 0.1 (0.2 for T2, whose cerebrospinal fluid would
leave the range otherwise) and the median becomes 0.5; ADC keeps a fixed scale, 0..4e-3 mm2/s -> [0, 2].
Everything is clipped to [0, 2]. Statistics are of the whole volume, never of a slice (that would make
neighbouring slices differ) and never of a target.

How the anchors were chosen: one quadratic regression per target, fitted on two of six real MS studies and
tested on the others, all pairs, T1, T2 and FLAIR each from the other two; mean R2 on the test studies:
1st percentile to 0 and median to 0.5, 0.20; zero to 0 and median to 0.5, 0.17; 5th percentile to 0.1, 0.28;
the same with T2's at 0.2, 0.26, and the ventricles no longer clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.modality import Modality

LOW_PERCENTILE, MEDIAN_VALUE, TOP = 5.0, 0.5, 2.0
ADC_TOP_MM2_S = 4e-3  # mm2/s; free water at 37 degrees is 3e-3
ADC_UNITS = {"mm2/s": 1.0, "1e-3 mm2/s": 1e-3, "1e-6 mm2/s": 1e-6, "1e-5 mm2/s": 1e-5}
OUTPUT_GAIN = 1000.0  # network scale -> arbitrary units: normal tissue near 500
_TISSUE_ADC_MM2_S = 8e-4  # median of the deep head


@dataclass(frozen=True)
class Scale:
    """x = (value - low) * gain maps acquired values to the network's scale.

    Attributes:
        low: acquired value that becomes 0.
        gain: per acquired unit; positive.
        note: how the scale was found, in words.
    """

    low: float
    gain: float
    note: str

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Acquired values, any shape -> network scale in [0, 2]."""
        return np.asarray(np.clip((values - np.float32(self.low)) * np.float32(self.gain), 0, TOP), dtype=np.float32)


def measure_scale(modality: Modality, deep_values: NDArray[np.float32]) -> Scale:
    """The scale of one volume.

    Args:
        modality: which contrast it is.
        deep_values: (n,) acquired values in the deep head, n >= 0.

    Raises:
        ValueError: the values are constant or none, so no scale can be measured.
    """
    if not deep_values.size:
        raise ValueError(f"the {modality.value} volume does not reach the middle of the head")
    if modality.is_quantitative:
        return _adc_scale(deep_values)
    low, median = np.percentile(deep_values, [LOW_PERCENTILE, 50.0])
    if not median > low:
        raise ValueError(f"the {modality.value} volume is flat inside the head")
    return anchored(modality, float(low), float(median))


def anchored(modality: Modality, low: float, median: float) -> Scale:
    """The scale that puts the 5th percentile `low` at its anchor and `median` at 0.5."""
    anchor = low_anchor(modality)
    gain = (MEDIAN_VALUE - anchor) / (median - low)
    return Scale(low - anchor / gain, gain, f"5th percentile to {anchor:g}, median to {MEDIAN_VALUE:g}")


def low_anchor(modality: Modality) -> float:
    """Where the 5th percentile of the deep head goes on the network's scale."""
    return 0.2 if modality is Modality.T2 else 0.1


def _adc_scale(deep_values: NDArray[np.float32]) -> Scale:
    """ADC files come in several units; the one that puts normal tissue nearest to 0.8e-3 mm2/s is it."""
    median = float(np.median(deep_values))
    if not median > 0:
        raise ValueError("the ADC volume is empty inside the head")
    units = min(ADC_UNITS, key=lambda u: abs(np.log(median * ADC_UNITS[u] / _TISSUE_ADC_MM2_S)))
    return Scale(0.0, ADC_UNITS[units] * TOP / ADC_TOP_MM2_S, f"ADC read as {units} (median {median:.4g})")


def to_units(modality: Modality, network: NDArray[np.float32]) -> NDArray[np.float32]:
    """Network scale -> what we write: 1e-6 mm2/s for ADC, arbitrary units (normal tissue near 500) else."""
    return np.asarray(network * np.float32(_output_gain(modality)), dtype=np.float32)


def from_units(modality: Modality, written: NDArray[np.float32]) -> NDArray[np.float32]:
    """What we write -> network scale: the way back of `to_units`."""
    return np.asarray(written / np.float32(_output_gain(modality)), dtype=np.float32)


def _output_gain(modality: Modality) -> float:
    return ADC_TOP_MM2_S / TOP * 1e6 if modality.is_quantitative else OUTPUT_GAIN
