"""Speed as ratios, everything measured side by side in one run on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import open_session, run
from medk2n_cli.model.store import find
from medk2n_cli.training.checkpoint import load_network
from medk2n_cli.training.network import SIZES, Exported, MedK2N
from medk2n_cli.training.text import text_vectors

_HAVE, _WANT = (Modality.T1, Modality.T2), (Modality.T1C, Modality.FLAIR)
_HEIGHT, _WIDTH, _ROUNDS = 224, 192, 3
_EAGER_BATCHES = (2, 8)  # the better counts


def bench(weights: str | None, checkpoint: Path | None, slices: int) -> dict[str, object]:
    """Two in, two out, `slices` slices of 224 x 192: the tool's runner against eager torch, and the machine's sgemm rate."""
    session = open_session(find(weights), choose_device("cpu", torch.get_num_threads()))
    network = load_network(checkpoint)[0] if checkpoint else MedK2N(SIZES[session.weights.card.size], text_vectors()).eval()
    stack = np.random.default_rng(0).random((2, slices, _HEIGHT, _WIDTH), dtype=np.float32)
    given = ModelInput(stack, _HAVE)
    slots = session.weights.card.modalities
    feeds = (torch.tensor([slots.index(m) for m in _HAVE]), torch.tensor([slots.index(m) for m in _WANT]))
    runtime = _best(lambda: run(session, given, _WANT))
    eager = min(_best(partial(_eager, network, given, feeds, size)) for size in _EAGER_BATCHES)
    passes = slices + min(slices, 16)  # the runner's pilot comes on top of the slices
    flops = _conv_flops(network, feeds) * passes
    sgemm = _sgemm_rate()
    return {
        "machine": {"threads": torch.get_num_threads(), "sgemm_gflops": round(sgemm / 1e9, 1)},
        "slices": slices,
        "size": [_HEIGHT, _WIDTH],
        "inputs": len(_HAVE),
        "targets": len(_WANT),
        "runner_seconds": round(runtime, 3),
        "eager_seconds_same_slices": round(eager * passes / slices, 3),
        "runner_seconds_for_155_slices": round(runtime * (155 + 16) / passes, 2),
        "times_faster_than_eager": round(eager * passes / slices / runtime, 2),
        "conv_gflop_per_slice": round(flops / passes / 1e9, 2),
        "share_of_sgemm_rate": round(flops / runtime / sgemm, 3),
    }


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


@torch.no_grad()
def _eager(network: MedK2N, given: ModelInput, feeds: tuple[torch.Tensor, torch.Tensor], batch: int) -> None:
    module = Exported(network).eval()
    have, want = feeds
    for numbers in given.batches(batch):
        images = torch.from_numpy(given.slices(numbers))
        module(images, have, want, torch.full((len(want), len(have)), -1.0), torch.full((len(want),), -1))


def _conv_flops(network: MedK2N, feeds: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Floating-point operations in the convolutions of one slice."""
    total = 0.0

    def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, torch.nn.Conv2d)
        window = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        total += 2.0 * window * output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    _eager(network, ModelInput(np.ones((len(feeds[0]), 1, _HEIGHT, _WIDTH), np.float32), _HAVE), feeds, 1)
    for hook in hooks:
        hook.remove()
    return total


def _sgemm_rate(size: int = 2048) -> float:
    a = torch.rand(size, size)
    return 2.0 * size**3 / _best(lambda: a @ a)
