"""How weights do on studies of many origins, each apart: the gap between seen and unseen hospitals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medk2n_cli.training.checkpoint import AnyNetwork
from medk2n_cli.training.dataset import PackedStudy
from medk2n_cli.training.gates import PackedSlices, questions, synthesise


def origin(network: AnyNetwork, study: PackedStudy) -> dict[str, object]:
    """Mean R2 over all proper subsets of one study, of 16 slices: in the head, after the best window, by number of inputs."""
    volume = PackedSlices.of(study)
    found: dict[tuple[int, ...], list[tuple[float, float]]] = {}
    count = len(study.slots)
    for have, target in questions(count, 1):
        slots, want = torch.tensor([study.slots[h] for h in have]), torch.tensor([study.slots[target]])
        made = synthesise(network, volume.images[:, list(have)], slots, want).image
        found.setdefault(have, []).append(_scores(made, volume.images[:, target, 1], volume.head > 0))
    subsets = {have: np.mean(scores, axis=0) for have, scores in found.items()}
    mean = np.mean(list(subsets.values()), axis=0)
    by_count = {str(k): round(float(np.mean([s[0] for h, s in subsets.items() if len(h) == k])), 3) for k in range(1, count)}
    return {"r2": round(float(mean[0]), 3), "r2_window_free": round(float(mean[1]), 3), "r2_by_number_of_inputs": by_count}


def _scores(made: Tensor, truth: Tensor, head: Tensor) -> tuple[float, float]:
    x, t = made[head].double(), truth[head].double()
    gain = float(((x - x.mean()) * (t - t.mean())).mean() / x.var(unbiased=False).clamp_min(1e-9))
    fitted = (x - x.mean()) * gain + t.mean()
    variance = float(t.var(unbiased=False))
    return tuple(1 - float(((a - t) ** 2).mean()) / variance for a in (x, fitted))  # type: ignore[return-value]


def origins(network: AnyNetwork, studies: Sequence[PackedStudy]) -> dict[str, object]:
    """`origin` of each study by name, and the mean over all."""
    rows = {study.name: origin(network, study) for study in studies}
    return {**rows, "mean": {"r2": round(float(np.mean([float(str(r["r2"])) for r in rows.values()])), 3)}}
