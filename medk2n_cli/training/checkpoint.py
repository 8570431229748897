"""Checkpoints: safetensors only, so that reading one never runs code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from medk2n_cli.training import sam2
from medk2n_cli.training.network import SIZES, MedK2N
from medk2n_cli.training.refusal import Refusal
from medk2n_cli.training.replacing import replacing
from medk2n_cli.training.text import text_vectors
from medk2n_cli.training.twins import AverageFusion, MMSynthesis


@dataclass(frozen=True, eq=False)
class Progress:
    """Where a training run stands; `history` holds what it was trained on, for the card."""

    size: str
    step: int
    seconds: float
    history: tuple[dict[str, object], ...]
    encoder: str = ""  # what `sam2.describe` says; empty: the network's own

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the real studies trained on, sorted."""
        return tuple(sorted({str(s) for run in self.history for s in run.get("studies", [])}))  # type: ignore[attr-defined]


KINDS = (*SIZES, "average", "mm-synthesis")
AnyNetwork = MedK2N | MMSynthesis


def new_network(kind: str, encoder: nn.Module | None = None) -> AnyNetwork:
    """An untrained network: Med-K2N in one of `SIZES`, or one of the twins it is measured against (`twins`)."""
    if kind == "average":
        return AverageFusion(SIZES["small"], text_vectors())
    return MMSynthesis(SIZES["small"]) if kind == "mm-synthesis" else MedK2N(SIZES[kind], text_vectors(), encoder)


def save(file: Path, network: dict[str, Tensor], extra: dict[str, Tensor], progress: Progress) -> None:
    """Write averaged weights (``ema.``) and whatever resuming needs (``extra``), by temporary file and rename."""
    tensors = {f"ema.{k}": v for k, v in network.items()} | extra
    meta = {
        "size": progress.size,
        "step": str(progress.step),
        "seconds": str(progress.seconds),
        "history": json.dumps(progress.history),
        "encoder": progress.encoder,
    }
    with replacing(file) as stream:
        stream.write(serialised({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, meta))


def load(file: Path) -> tuple[dict[str, Tensor], Progress]:
    """All tensors by name, and the progress.

    Raises:
        Refusal: there is no such file.
    """
    if not file.is_file():
        raise Refusal(f"there is no checkpoint {file}")
    with safe_open(file, "pt") as stored:
        meta = stored.metadata()
        tensors = {k: stored.get_tensor(k) for k in stored.keys()}  # noqa: SIM118 - safe_open is no mapping
    history = tuple(json.loads(meta["history"]))
    return tensors, Progress(meta["size"], int(meta["step"]), float(meta["seconds"]), history, meta.get("encoder", ""))


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state of one copy of the network, ``ema`` (averaged) or ``live``, out of what `load` gave."""
    return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}


def load_network(file: Path) -> tuple[MedK2N, Progress]:
    """The averaged weights of a Med-K2N checkpoint, in evaluation mode.

    Raises:
        Refusal: the checkpoint holds a twin of another build.
    """
    network, progress = load_any(file)
    if not (isinstance(network, MedK2N) and network.gated):
        raise Refusal(f"{file.name} holds {progress.size}, which is not Med-K2N")
    return network, progress


def load_any(file: Path) -> tuple[AnyNetwork, Progress]:
    """As `load_network`, of any kind."""
    tensors, progress = load(file)
    network = new_network(progress.size, sam2.rebuild(progress.encoder))
    network.load_state_dict(part(tensors, "ema"))
    return network.eval(), progress


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"adam.{i}.{k}": torch.as_tensor(v) for i, row in state.items() for k, v in row.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    rows: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("adam."):
            _, number, key = name.split(".", 2)
            rows.setdefault(int(number), {})[key] = value
    state = optimiser.state_dict()
    state["state"] = rows
    optimiser.load_state_dict(state)
