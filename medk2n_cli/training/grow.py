"""A checkpoint of fewer residual blocks becomes the start of a deeper network, which at first computes the same.

Net2Net (Chen et al. 2016) by the simplest way: blocks start as the identity, so that those the checkpoint lacks change nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch

from medk2n_cli.training import checkpoint, sam2
from medk2n_cli.training.refusal import Refusal

_BLOCK = re.compile(r"\.blocks\.\d+\.\d+\.")


def as_twin(file: Path, out: Path) -> None:
    """Write the `small` checkpoint `file` to `out` as the twin with average fusion, whose tensors are the same.

    The twin then starts from features trained with gates for as many steps, and `fit --size average` goes on from there.

    Raises:
        Refusal: the checkpoint is of another size, or has another encoder.
    """
    tensors, progress = checkpoint.load(file)
    if progress.size != "small" or progress.encoder:
        raise Refusal(f"{file.name} holds {progress.size} {progress.encoder}: the twin is one of small with its own encoder")
    extra = {k: v for k, v in tensors.items() if not k.startswith("ema.")}
    began: dict[str, object] = {"twin of step": progress.step, "steps": 0, "seconds": 0}
    as_average = replace(progress, size="average", history=(*progress.history, began))
    checkpoint.save(out, checkpoint.part(tensors, "ema"), extra, as_average)


def grow(file: Path, out: Path, seed: int = 1) -> int:
    """Write the checkpoint `file` to `out`, ready for `fit --resume`, with every block that its size has by now.

    The optimiser's memory stays behind: it belongs to the parameters as they were numbered before.

    Returns:
        How many tensors were added.

    Raises:
        Refusal: the checkpoint differs from today's network in more than missing blocks, or in nothing.
    """
    tensors, progress = checkpoint.load(file)
    torch.manual_seed(seed)
    network = checkpoint.new_network(progress.size, sam2.rebuild(progress.encoder))
    new = network.state_dict()
    old = checkpoint.part(tensors, "ema")
    added = new.keys() - old.keys()
    foreign = (old.keys() - new.keys()) | {k for k in old.keys() & new.keys() if old[k].shape != new[k].shape}
    if foreign or not added or not all(_BLOCK.search(k) for k in added):
        raise Refusal(f"{file.name} is no {progress.size} network that lacks nothing but blocks")
    live = checkpoint.part(tensors, "live")
    checkpoint.save(out, new | old, {f"live.{k}": v.clone() for k, v in (new | live).items()}, progress)
    return len(added)
