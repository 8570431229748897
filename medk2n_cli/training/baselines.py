"""What the network must beat: the constant, the histogram-matched input, the quadratic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.modality import Modality
from medk2n_cli.packing.normalise import TOP

FloatArray = NDArray[np.float32]
_VOXELS, _QUANTILES = 60000, 256


@dataclass(frozen=True, eq=False)
class TrainingVoxels:
    """Normalised values inside the head of training studies: one mapping modality -> (n,) per study, and whether stripped.

    `like`: the kind of head to be answered, stripped or whole; studies of that kind are preferred, as a scalp has other laws.
    """

    studies: Sequence[Mapping[Modality, FloatArray]]
    stripped: Sequence[bool]
    like: bool | None = None

    @classmethod
    def of(cls, studies: Sequence[tuple[Mapping[Modality, FloatArray], NDArray[np.bool_], bool]]) -> TrainingVoxels:
        """From (D, H, W) volumes by modality, the head and the kind of each study; the same random voxels of every contrast."""
        rng = np.random.default_rng(0)
        rows = []
        for volumes, head, _ in studies:
            index = rng.choice(np.flatnonzero(head), _VOXELS)
            rows.append({m: v.ravel()[index].astype(np.float32) for m, v in volumes.items()})
        return cls(rows, [stripped for _, _, stripped in studies])

    def holding(self, modalities: Sequence[Modality]) -> list[Mapping[Modality, FloatArray]]:
        """The studies that hold all of these: those of the kind `like` where there are any."""
        found = [(s, kind) for s, kind in zip(self.studies, self.stripped, strict=True) if all(m in s for m in modalities)]
        return [s for s, kind in found if kind == self.like] or [s for s, _ in found]


def constant(truth: FloatArray, head: NDArray[np.bool_]) -> FloatArray:
    """(0): the one value that fits this very truth best, its mean; nothing is easier to beat, or harder to hide from."""
    return np.full_like(truth, truth[head].mean())


def histogram_matched(source: FloatArray, target: Modality, head: NDArray[np.bool_], voxels: TrainingVoxels) -> FloatArray:
    """(a): the input with the histogram that the target has in the training studies."""
    levels = np.linspace(0, 1, _QUANTILES)
    known = np.concatenate([s[target] for s in voxels.holding([target])])
    matched = np.interp(source, np.quantile(source[head], levels), np.quantile(known, levels))
    return np.asarray(matched, dtype=np.float32)


def quadratic(sources: Mapping[Modality, FloatArray], target: Modality, voxels: TrainingVoxels) -> FloatArray | None:
    """(b): per-voxel least squares on 1, x_i and x_i x_j, fitted on the training studies that hold what it takes."""
    names = list(sources)
    studies = voxels.holding([*names, target])
    if not studies:
        return None
    x = np.concatenate([_features([s[m] for m in names]) for s in studies])
    y = np.concatenate([s[target] for s in studies])
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    shape = sources[names[0]].shape
    made = _features([sources[m].ravel() for m in names]) @ weights
    return np.asarray(made.reshape(shape).clip(0, TOP), dtype=np.float32)


def _features(values: Sequence[FloatArray]) -> NDArray[np.float64]:
    columns = [np.ones_like(values[0]), *values]
    columns += [a * b for n, a in enumerate(values) for b in values[n:]]
    return np.stack(columns, axis=1).astype(np.float64)
