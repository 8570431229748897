"""How weights do on studies of many origins, each apart: the gap between seen and unseen hospitals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medk2n_cli.packing.level import level_of
from medk2n_cli.packing.likeness import r2, windowed
from medk2n_cli.training.checkpoint import AnyNetwork
from medk2n_cli.training.dataset import SLOTS, PackedStudy
from medk2n_cli.training.gates import PackedSlices, questions, synthesise

DEEP_MM = 22  # the scalp, skull and fluid of a whole head lie less deep
_BySubset = dict[tuple[int, ...], list[tuple[float, float]]]


def origin(network: AnyNetwork, study: PackedStudy) -> dict[str, object]:
    """Mean R2 over all proper subsets of one study, of 16 slices: in the head, after the best window, by number of inputs.

    At the level that the tool gives (`packing.level`). Of whole heads also of what lies deeper than `DEEP_MM` alone: most of
    their variance is scalp.
    """
    volume = PackedSlices.of(study)
    head = volume.head.numpy() > 0
    parts = {"r2": head} | ({} if study.stripped else {"r2_deep": _deep(head)})
    found: dict[str, _BySubset] = {name: {} for name in parts}
    for have, target in questions(len(study.slots), 1):
        slots, want = torch.tensor([study.slots[h] for h in have]), torch.tensor([study.slots[target]])
        made = synthesise(network, volume.images[:, list(have)], slots, want).image.numpy()
        made *= np.float32(level_of(SLOTS[study.slots[target]], made, volume.deep.numpy()))
        truth = volume.images[:, target, 1].numpy()
        for name, part in parts.items():
            found[name].setdefault(have, []).append((r2(made, truth, part), r2(windowed(made, truth, part), truth, part)))
    return {key: value for name, scores in found.items() for key, value in _told(name, scores).items()}


def _deep(head: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S, H, W) what lies deeper than `DEEP_MM` under the edge of the mask, slice by slice; 1 mm in plane."""
    return np.asarray(ndimage.binary_erosion(head, np.ones((1, 3, 3), bool), iterations=DEEP_MM))


def _told(name: str, scores: _BySubset) -> dict[str, object]:
    subsets = {have: np.mean(each, axis=0) for have, each in scores.items()}
    mean = np.mean(list(subsets.values()), axis=0)
    counts = sorted({len(have) for have in subsets})
    by_count = {str(k): round(float(np.mean([s[0] for h, s in subsets.items() if len(h) == k])), 3) for k in counts}
    return {
        name: round(float(mean[0]), 3),
        f"{name}_window_free": round(float(mean[1]), 3),
        f"{name}_by_number_of_inputs": by_count,
    }


def origins(network: AnyNetwork, studies: Sequence[PackedStudy]) -> dict[str, object]:
    """`origin` of each study by name, and the mean over all."""
    rows = {study.name: origin(network, study) for study in studies}
    keys = {key for row in rows.values() for key, value in row.items() if isinstance(value, float)}
    means = {key: round(float(np.mean([float(str(r[key])) for r in rows.values() if key in r])), 3) for key in sorted(keys)}
    return {**rows, "mean": means}
