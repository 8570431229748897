"""The gate test on held-out studies: what one good, and one spoiled, auxiliary does to every subset of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput
from medk2n_cli.training.checkpoint import AnyNetwork
from medk2n_cli.training.dataset import SLOTS, PackedStudy
from medk2n_cli.training.metrics import peak_of, rounded
from medk2n_cli.training.network import MedK2N
from medk2n_cli.training.twins import MMSynthesis

KINDS = ("clean", "noise", "another subject", "shift of 10 mm")
USEFUL = 0.01  # a clean auxiliary that lowers the L1 error by a hundredth is useful
SLICES = 16
_BATCH = 8


@dataclass(frozen=True)
class GateCase:
    """One auxiliary of one subset for one target.

    Attributes:
        opened: the volume's decision; always True for networks without gates.
        db_lost: PSNR of the run without the auxiliary minus PSNR of the run with it.
        gain: predicted relative gain.
        measured: by how much, relatively, letting it in lowers the L1 error.
    """

    subject: str
    have: tuple[str, ...]
    auxiliary: str
    target: str
    kind: str
    opened: bool
    db_lost: float
    gain: float
    measured: float

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return rounded(asdict(self))


@dataclass(frozen=True, eq=False)
class PackedSlices:
    """Slices spread through a study's head, ready for the network: images (S, m, C, H, W), head and deep (S, H, W)."""

    study: PackedStudy
    images: Tensor
    head: Tensor
    deep: Tensor

    @classmethod
    def of(cls, study: PackedStudy) -> PackedSlices:
        """Up to 16 slices that hold some head."""
        inside = np.flatnonzero(study.head.flatten(1).float().mean(1).numpy() > 0.05)
        numbers = inside[np.linspace(0, len(inside) - 1, min(SLICES, len(inside))).astype(int)]
        around = np.clip(numbers[:, None] + np.arange(-1, 2), 0, study.images.shape[1] - 1)
        images = study.images[:, around].transpose(0, 1).float()
        return cls(study, images, study.head[numbers].float(), study.deep[numbers])


@torch.no_grad()
def gate_test(network: AnyNetwork, study: PackedStudy, stranger: PackedStudy) -> list[GateCase]:
    """Every subset of two inputs or more, every target it lacks, every auxiliary, clean and spoiled in three ways.

    stranger: another subject with the same kind of head, for the contrasts it has.
    """
    volume, other = PackedSlices.of(study), PackedSlices.of(stranger)
    chance = torch.Generator().manual_seed(3)
    cases = []
    for have, target in questions(len(study.slots), 2):
        for aux in range(len(have)):
            if aux == _key(network, study, have, target):
                continue
            without = _without(network, volume, have, target, aux)
            for kind in KINDS:
                images = volume.images[:, list(have)].clone()
                spoiled = _spoiled(kind, images[:, aux], study.slots[have[aux]], other, chance)
                if spoiled is not None:
                    images[:, aux] = spoiled
                    cases.append(_case(network, volume, images, (have, target, aux, kind), without))
    return cases


def questions(count: int, fewest: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every proper subset of `fewest` or more of `count` contrasts, with each contrast that it lacks."""
    for k in range(fewest, count):
        for have in combinations(range(count), k):
            yield from ((have, target) for target in range(count) if target not in have)


def _key(network: AnyNetwork, study: PackedStudy, have: Sequence[int], target: int) -> int:
    """Position of the key frame; networks without one count their first input."""
    if isinstance(network, MMSynthesis):
        return 0
    slots, want = torch.tensor([study.slots[h] for h in have]), torch.tensor([study.slots[target]])
    return int(network.choose_key(slots, want)[0])


def _spoiled(kind: str, x: Tensor, slot: int, other: PackedSlices, chance: torch.Generator) -> Tensor | None:
    """(S, C, H, W) `x` spoiled; None where the other subject lacks the contrast."""
    if kind == "noise":
        return (0.5 * torch.randn(x.shape, generator=chance).abs() * (x > 0)).clamp(0, 2)
    if kind == "shift of 10 mm":
        return x.roll((7, 7), (-2, -1))
    if kind == "another subject":
        return _framed(other.images[:, other.study.slots.index(slot)], x) if slot in other.study.slots else None
    return x


def _framed(images: Tensor, like: Tensor) -> Tensor:
    """`images` centred in the frame of `like`, slice for slice at the same share of the head's height."""
    rows = np.linspace(0, len(images) - 1, len(like)).astype(int)
    high, wide = (b - a for a, b in zip(images.shape[-2:], like.shape[-2:], strict=True))
    return F.pad(images[rows], (wide // 2, wide - wide // 2, high // 2, high - high // 2))


def _without(network: AnyNetwork, volume: PackedSlices, have: Sequence[int], target: int, aux: int) -> Tensor:
    """(S, H, W) the target from the other inputs; the same however `aux` is spoiled."""
    rest = [h for n, h in enumerate(have) if n != aux]
    slots, want = torch.tensor([volume.study.slots[h] for h in rest]), torch.tensor([volume.study.slots[target]])
    return synthesise(network, volume.images[:, rest], slots, want).image


def _case(
    network: AnyNetwork, volume: PackedSlices, images: Tensor, asked: tuple[Sequence[int], int, int, str], without: Tensor
) -> GateCase:
    """asked: inputs, target, auxiliary and kind."""
    have, target, aux, kind = asked
    slots = [volume.study.slots[h] for h in have]
    want = torch.tensor([volume.study.slots[target]])
    truth, head = volume.images[:, target, 1], volume.head
    decided = synthesise(network, images, torch.tensor(slots), want)
    let_in = synthesise(network, images, torch.tensor(slots), want, aux)
    shut, opened = (float(((made - truth).abs() * head).sum() / head.sum()) for made in (without, let_in.image))
    return GateCase(
        volume.study.name,
        tuple(SLOTS[s].value for s in slots),
        SLOTS[slots[aux]].value,
        SLOTS[volume.study.slots[target]].value,
        kind,
        bool(decided.gates[aux]),
        _psnr(without, truth, head) - _psnr(decided.image, truth, head),
        float(decided.gains[aux]),
        (shut - opened) / (shut + 1e-3),
    )


def _psnr(made: Tensor, truth: Tensor, head: Tensor) -> float:
    peak = peak_of(truth.numpy(), head.numpy() > 0)
    mse = float((((made - truth) ** 2) * head).sum() / head.sum())
    return float(10 * np.log10(peak**2 / mse))


@dataclass(frozen=True, eq=False)
class Synthesised:
    """One target of one volume: image and expected error (S, H, W), gates and predicted gains (K,)."""

    image: Tensor
    expected_error: Tensor
    gates: Tensor
    gains: Tensor


@torch.no_grad()
def synthesise(network: AnyNetwork, images: Tensor, have: Tensor, want: Tensor, let_in: int | None = None) -> Synthesised:
    """A whole volume for one target: the medians decide gates and head; `let_in` opens one gate. At the network's own level."""
    k = len(have)
    if isinstance(network, MMSynthesis):
        made = torch.cat([network(part, have, want)[:, 0] for part in images.split(_BATCH)])  # it works at full resolution
        return Synthesised(made, torch.zeros_like(made), torch.ones(k), torch.zeros(k))
    key = network.choose_key(have, want)
    features = network.encode(images, have)
    fusion = network.fuse_weights(images, features, have, want, key, torch.full((1, k), -1.0))
    gates = _decided(network, fusion.w_global - fusion.threshold, int(key), let_in)
    auto = torch.full((1,), -1)
    fusion = fusion._replace(gate=gates.expand_as(fusion.gate))
    out = network.decode(images, features, have, want, key, fusion, auto)
    head = int(out.chosen.float().mean() > 0.5)
    return Synthesised(out.heads[:, 0, head], out.expected_error[:, 0], gates, fusion.gain[:, 0].mean(0))


def predictor(network: AnyNetwork) -> Callable[[ModelInput, Sequence[Modality]], NDArray[np.float32]]:
    """The network as a function from packed inputs and targets to images (N, D, H, W), as `synthesise` makes them."""

    def predict(given: ModelInput, want: Sequence[Modality]) -> NDArray[np.float32]:
        have = torch.tensor([SLOTS.index(m) for m in given.have])
        images = torch.from_numpy(given.slices(np.arange(given.depth)))
        return np.stack([synthesise(network, images, have, torch.tensor([SLOTS.index(m)])).image.numpy() for m in want])

    return predict


def _decided(network: MedK2N, margin: Tensor, key: int, let_in: int | None) -> Tensor:
    """margin (S, 1, K) -> (K,) gates of the whole volume."""
    gates = (margin[:, 0].median(0).values >= 0).float() if network.gated else torch.ones(margin.shape[-1])
    gates[[n for n in (key, let_in) if n is not None]] = 1.0
    return gates


def summary(cases: Sequence[GateCase]) -> dict[str, object]:
    """What the card tells: rates by kind, usefulness, correlation of predicted and measured gains."""
    by_kind = {kind: [c for c in cases if c.kind == kind] for kind in KINDS}
    useful = [c for c in by_kind["clean"] if c.measured > USEFUL]
    pairs: dict[str, set[bool]] = {}
    for c in cases:
        pairs.setdefault(f"{c.auxiliary}>{c.target}", set()).add(c.opened)
    return {
        "cases": {kind: len(found) for kind, found in by_kind.items()},
        "open": {kind: round(float(np.mean([c.opened for c in found])), 3) for kind, found in by_kind.items() if found},
        "within_0.1_dB": {
            kind: round(float(np.mean([c.db_lost <= 0.1 for c in found])), 3) for kind, found in by_kind.items() if found
        },
        "mean_dB_lost": {kind: round(float(np.mean([c.db_lost for c in found])), 3) for kind, found in by_kind.items() if found},
        "useful_clean_open": round(float(np.mean([c.opened for c in useful])), 3) if useful else None,
        "useful_clean": len(useful),
        "pairs_never_changing": sorted(name for name, seen in pairs.items() if len(seen) == 1),
        "measured_gain": {
            kind: round(float(np.mean([c.measured for c in found])), 4) for kind, found in by_kind.items() if found
        },
        "gain_spearman": _rank(cases),
        "gain_spearman_clean": _rank(by_kind["clean"]),
    }


def _rank(cases: Sequence[GateCase]) -> float | None:
    """Of predicted and measured gain; None where there are too few to rank."""
    rank = float(spearmanr([c.gain for c in cases], [c.measured for c in cases])[0]) if len(cases) > 2 else float("nan")
    return round(rank, 3) if np.isfinite(rank) else None
