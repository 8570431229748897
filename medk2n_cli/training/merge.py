"""Runs that left one checkpoint side by side, put together: the mean of their averaged weights.

Two runs of one thread each make more steps a minute on two cores than one run of two threads, and the mean of networks
that went on from the same weights is often better than each of them (local SGD, Stich 2019; model soups, Wortsman et al. 2022).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from medk2n_cli.training import checkpoint
from medk2n_cli.training.refusal import Refusal


def merge(files: Sequence[Path], out: Path) -> checkpoint.Progress:
    """Write the mean of checkpoints to `out`, ready for `fit --resume`; all their steps and runs are counted.

    Raises:
        Refusal: they are not two or more runs of the same network that went on from a common start, each on its own.
    """
    stored = [checkpoint.load(f) for f in files]
    progress = _together([p for _, p in stored])
    names = sorted({n for tensors, _ in stored for n in tensors})  # a moment may be missing: not every step moves every part
    mean = {n: _mean([tensors[n] for tensors, _ in stored if n in tensors]) for n in names}
    average = checkpoint.part(mean, "ema")
    live = {f"live.{n}": v.clone() for n, v in average.items()}  # what is averaged already is the better place to go on from
    checkpoint.save(out, average, live | {n: v for n, v in mean.items() if n.startswith("adam.")}, progress)
    return progress


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0) if values[0].is_floating_point() else values[0]


def _together(runs: Sequence[checkpoint.Progress]) -> checkpoint.Progress:
    first = runs[0]
    common = 0
    while all(len(r.history) > common and r.history[common] == first.history[common] for r in runs):
        common += 1
    after = [json.dumps(r.history[common:]) for r in runs]
    if len(runs) < 2 or len(set(after)) < len(after) or "[]" in after:
        raise Refusal("give two or more checkpoints, each of a run of its own")
    if not common or any((r.size, r.encoder) != (first.size, first.encoder) for r in runs):
        raise Refusal("the checkpoints did not go on from a common start")
    before = first.history[:common]
    history = (*before, *(h for r in runs for h in r.history[common:]))
    steps, seconds = (sum(float(str(h[k])) for h in history) for k in ("steps", "seconds"))
    return checkpoint.Progress(first.size, int(steps), seconds, history, first.encoder)
