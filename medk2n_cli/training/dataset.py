"""What a training step eats: crops of simulated heads and of real studies, one subset of modalities per batch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.training.refusal import Refusal
from medk2n_cli.training.simulate.anatomy import HeadTensors
from medk2n_cli.training.simulate.draw import Draw, draw_study
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.render import Window, render

SLOTS = list(Modality)
# At 2 and 4, lesions were lost: bright in T2, they were taken for fluid and made dark in FLAIR.
LESION_WEIGHT = 3.0
# The jitter: crops centred on lesions taught the network that bright T2 is a lesion in the middle and fluid elsewhere.
_AT_LESION, _AT_REAL_LESION, _LESION_JITTER_MM = 0.5, 0.5, 20.0
_VISIT = re.compile(r"(_study\d+|_tp\d+|_ses-[^_]+|(?<=-\d{5})-\d{3})$")


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with neighbours.

    Attributes:
        acquired: (M, C, H, W) float16.
        truth: (M, H, W) float16.
        weight: (H, W) loss weight.
        slots: which rows are filled.
        stranger: (M, C, H, W) float16, another subject at about the same place.
    """

    acquired: Tensor
    truth: Tensor
    weight: Tensor
    slots: tuple[int, ...]
    stranger: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """images and strangers (B, K, C, H, W), truth (B, N, H, W), weight (B, H, W), have (K), want (N)."""

    images: Tensor
    strangers: Tensor
    truth: Tensor
    weight: Tensor
    have: Tensor
    want: Tensor


def patient_of(study: str) -> str:
    """The study's name without what tells one visit from another: longitudinal_01 of longitudinal_01_study2."""
    return _VISIT.sub("", study)


def seen_before(studies: Iterable[str], trained: Iterable[str]) -> list[str]:
    """Those of `studies` whose patient is among the `trained`, in this visit or another."""
    patients = {patient_of(s) for s in trained}
    return [s for s in studies if patient_of(s) in patients]


def collate(samples: list[Sample], have: list[int], want: list[int], chance: np.random.Generator) -> Batch:
    """Samples that all hold `have` and `want` -> Batch; each sample mirrored in half of the cases."""
    rows = []
    for sample in samples:
        parts = sample.acquired[have], sample.stranger[have], sample.truth[want], sample.weight
        flipped = chance.random() < 0.5
        rows.append([p.float().flip(-1) if flipped else p.float() for p in parts])
    images, strangers, truth, weight = (torch.stack(column) for column in zip(*rows, strict=True))
    return Batch(images, strangers, truth, weight, torch.tensor(have), torch.tensor(want))


class SimulatedPool:
    """Rendered crops kept in memory; each step replaces a few, so that rendering is not what training waits for."""

    def __init__(self, heads: list[Head], crop: tuple[int, int], size: int, seed: int, device: torch.device) -> None:
        self._heads = [HeadTensors.of(h, device) for h in heads]
        self._crop, self._size = crop, size
        self._rng = np.random.default_rng(seed)
        self._samples: list[Sample] = []
        self._places = np.full((size, 4), np.inf)  # mm from the brain's centre; stripped heads far from whole ones
        self._next = 0

    def refresh(self, count: int) -> None:
        """Render `count` new samples; the oldest make room."""
        for _ in range(count):
            sample, place = self._render()
            number = self._next % self._size
            if number == len(self._samples):
                self._samples.append(sample)
            else:
                self._samples[number] = sample
            self._places[number] = place
            self._next += 1

    def draw(self, count: int, chance: np.random.Generator) -> list[Sample]:
        """`count` samples; every one holds all six contrasts, and its stranger is one of the three nearest in place."""
        drawn = []
        for i in chance.integers(len(self._samples), size=count):
            apart = np.linalg.norm(self._places[: len(self._samples)] - self._places[i], axis=1)
            apart[i] = np.inf
            near = np.argsort(apart)[: min(3, max(1, len(apart) - 1))]
            drawn.append(replace(self._samples[i], stranger=self._samples[int(chance.choice(near))].acquired))
        return drawn

    def _at_lesion(self, source: HeadTensors, draw: Draw) -> NDArray[np.float64]:
        """(3,) about where one of the lesions comes to lie, mm from the brain's centre."""
        size = np.array([max(one.radii) for one in draw.lesions])  # else a tumour drowns among small lesions
        lesion = draw.lesions[self._rng.choice(len(size), p=size / size.sum())]
        return np.asarray(np.linalg.inv(draw.pose.astype(float)) @ (np.array(lesion.centre) - source.brain_centre))

    def _render(self) -> tuple[Sample, NDArray[np.float64]]:
        rng = self._rng
        source = self._heads[rng.integers(len(self._heads))]
        draw = draw_study(source.head, int(rng.integers(2**31)))
        box = np.array(source.head.brain_box, dtype=float)
        half = (box[1] - box[0]) / 2
        reach = np.maximum(half + 8 - np.array([self._crop[1], self._crop[0], 0]) / 2, 0)
        reach[2] = half[2] + 8
        centre = rng.uniform(-reach, reach)
        if draw.lesions and rng.random() < _AT_LESION:
            centre = self._at_lesion(source, draw) + rng.uniform(-_LESION_JITTER_MM, _LESION_JITTER_MM, 3) * [1, 1, 0.3]
        window = Window((float(centre[0]), float(centre[1]), float(centre[2])), self._crop, 3)
        out = render(source, draw, window, SLOTS)
        weight = 0.05 + 0.95 * out.head[1].float() + (LESION_WEIGHT - 1) * (out.lesion[1] > 0)
        acquired = torch.stack([out.acquired[m] for m in SLOTS]).half().cpu()
        truth = torch.stack([out.clean[m][1] for m in SLOTS]).half().cpu()
        sample = Sample(acquired, truth, weight.half().cpu(), tuple(range(len(SLOTS))), acquired)
        return sample, np.append(centre, 0.0 if draw.strip_mm is None else 1000.0)


@dataclass(frozen=True, eq=False)
class PackedStudy:
    """A real study as the tool packs it: images (m, S, H, W) float16 on the network's scale; head, lesion, deep (S, H, W)."""

    name: str
    images: Tensor
    slots: tuple[int, ...]
    head: Tensor
    lesion: Tensor
    stripped: bool
    deep: Tensor

    @property
    def patient(self) -> str:
        """Whose study it is: `patient_of` its name."""
        return patient_of(self.name)

    @classmethod
    def load(cls, file: Path) -> PackedStudy:
        """Read what `prepare` wrote.

        Raises:
            Refusal: an older version wrote it.
        """
        z = np.load(file)
        if lacking := {"deep", "lesion"} - set(z.files):
            raise Refusal(f"{file} has no {min(lacking)}, an older version made it: remove it, or make the bundle again")
        images, head, lesion, deep = (torch.from_numpy(z[name]) for name in ("images", "head", "lesion", "deep"))
        return cls(file.stem, images, tuple(z["slots"].tolist()), head, lesion, bool(z["stripped"]), deep)


class RealStudies:
    """Random crops of packed studies; a batch comes from one study, since studies hold different contrasts."""

    def __init__(self, studies: list[PackedStudy], crop: tuple[int, int]) -> None:
        self._studies, self._crop = studies, crop
        self._slices = [torch.nonzero(s.head.flatten(1).float().mean(1) > 0.02)[:, 0] for s in studies]
        self._diseased = [
            torch.nonzero(s.lesion[k].flatten(1).any(1))[:, 0] for s, k in zip(studies, self._slices, strict=True)
        ]  # positions in `_slices`
        # A study counts by its contrasts: more of them say more about how contrasts relate.
        share = np.array([(len(s.slots) - 1.0) ** 1.5 for s in studies])
        self._share = share / share.sum()

    def draw(self, count: int, chance: np.random.Generator) -> list[Sample]:
        """`count` crops of one study."""
        number = int(chance.choice(len(self._studies), p=self._share))
        return [self._sample(number, chance) for _ in range(count)]

    def _sample(self, number: int, chance: np.random.Generator) -> Sample:
        study, slices = self._studies[number], self._slices[number]
        rank = int(chance.integers(len(slices)))
        diseased = self._diseased[number]
        around, jitter = study.head, 0.0
        if len(diseased) and chance.random() < _AT_REAL_LESION:
            rank, around = int(diseased[int(chance.integers(len(diseased)))]), study.lesion
            jitter = _LESION_JITTER_MM
        centre = int(slices[rank])
        corner = _corner(around[centre], self._crop, chance, jitter)
        masks = torch.stack([_cut(m[centre], *corner, self._crop) for m in (study.head, study.lesion)]).float()
        part, (head, lesion) = _turned(self._crop_of(study, centre, corner).float(), masks, chance)
        acquired = self._stranger(number, rank / len(slices), corner, chance)
        missing = acquired.flatten(1).amax(1) == 0
        inside, stranger = list(study.slots), acquired.clone()
        acquired[:] = 0
        acquired[inside] = _reacquired(part, chance).half()
        stranger[missing] = acquired[missing].flip(-1)
        truth = torch.zeros(len(SLOTS), *part.shape[2:], dtype=torch.float16)
        truth[inside] = part[:, 1].half()
        weight = 0.05 + 0.95 * head + (LESION_WEIGHT - 1) * head * lesion
        return Sample(acquired, truth, weight.half(), study.slots, stranger)

    def _crop_of(self, study: PackedStudy, centre: int, corner: tuple[int, int]) -> Tensor:
        depth = study.images.shape[1]
        around = [min(max(centre + d, 0), depth - 1) for d in (-1, 0, 1)]
        return _cut(study.images[:, around], *corner, self._crop)

    def _stranger(self, number: int, height: float, corner: tuple[int, int], chance: np.random.Generator) -> Tensor:
        """(M, C, H, W) the same place of another study of the same kind, zeros where it lacks a contrast."""
        found = torch.zeros(len(SLOTS), 3, *self._crop, dtype=torch.float16)
        mine = self._studies[number]
        others = [n for n, s in enumerate(self._studies) if s.patient != mine.patient and s.stripped == mine.stripped]
        if others:
            other = others[int(chance.integers(len(others)))]
            study, slices = self._studies[other], self._slices[other]
            off = [(b - a) // 2 for a, b in zip(self._studies[number].head.shape[1:], study.head.shape[1:], strict=True)]
            place = (max(0, corner[0] + off[0]), max(0, corner[1] + off[1]))
            found[list(study.slots)] = self._crop_of(study, int(slices[int(height * len(slices))]), place)
        return found


def _turned(images: Tensor, masks: Tensor, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(m, C, H, W), (n, H, W), half of them mirrored; half rotated by about 6 degrees and scaled by about 6 % in plane."""
    if chance.random() < 0.5:
        images, masks = images.flip(-1), masks.flip(-1)
    if chance.random() < 0.5:
        return images, masks
    angle, scale = chance.normal(0, 0.1), chance.normal(1, 0.06)
    c, s = float(np.cos(angle) * scale), float(np.sin(angle) * scale)
    grid = F.affine_grid(torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]]), [1, 1, *masks.shape[1:]], align_corners=False)
    stack = torch.cat([images.flatten(0, 1), masks])
    moved = F.grid_sample(stack[None], grid, align_corners=False)[0]
    return moved[: -len(masks)].reshape(images.shape), (moved[-len(masks) :] > 0.5).float()


def _reacquired(images: Tensor, chance: np.random.Generator) -> Tensor:
    """Another protocol, coil profile, error of scale and noise, a little of each, for each contrast (m, C, H, W)."""
    m = images.shape[0]
    field = torch.from_numpy(chance.normal(0, chance.uniform(0, 0.1), (m, 1, 4, 4)).astype(np.float32))
    field = F.interpolate(field, size=images.shape[-2:], mode="bicubic", align_corners=True)
    gain = torch.from_numpy(chance.normal(1.0, 0.04, (m, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy((chance.standard_normal(images.shape) * chance.uniform(0, 0.025, (m, 1, 1, 1))).astype(np.float32))
    return ((_bent(images, chance) * field.exp() * gain + noise) * (images > 0)).clamp(0, 2)


def _bent(images: Tensor, chance: np.random.Generator) -> Tensor:
    """By a gamma of about 0.85 to 1.2 for each contrast, which leaves 0.1 and 0.5 where normalisation puts them; half stay."""
    gamma = np.exp(chance.normal(0, 0.15, (images.shape[0], 1, 1, 1)) * (chance.random((images.shape[0], 1, 1, 1)) < 0.5))
    bend = torch.from_numpy(gamma.astype(np.float32))
    low = 0.2**bend
    return 0.5 + 0.4 * ((images / 0.5) ** bend - 1) / (1 - low)


def _corner(head: Tensor, crop: tuple[int, int], chance: np.random.Generator, jitter: float) -> tuple[int, int]:
    """Upper left corner of a crop whose centre lies in `head`, or up to `jitter` pixels beside it."""
    inside = torch.nonzero(head)
    point = inside[chance.integers(len(inside))] if len(inside) else torch.tensor(head.shape) // 2
    corner = []
    for axis in range(2):
        low, high = 0, max(0, head.shape[axis] - crop[axis])
        place = int(point[axis]) + round(chance.uniform(-jitter, jitter))
        corner.append(int(min(max(place - crop[axis] // 2, low), high)))
    return corner[0], corner[1]


def _cut(array: Tensor, row: int, column: int, crop: tuple[int, int]) -> Tensor:
    """A crop, padded with zeros where the array is smaller."""
    part = array[..., row : row + crop[0], column : column + crop[1]]
    pad = (0, crop[1] - part.shape[-1], 0, crop[0] - part.shape[-2])
    return F.pad(part, pad) if any(pad) else part


def training_slices(heads: list[Head], studies: list[PackedStudy], size: tuple[int, int] = (224, 192)) -> list[Sample]:
    """40 whole slices of simulated heads and as many of studies, always the same: what a quantisation measures its scales on."""
    chance = np.random.default_rng(8)
    pool = SimulatedPool(heads, size, 40, 8, torch.device("cpu"))
    pool.refresh(40)
    found = pool.draw(40, chance)
    if studies:
        real = RealStudies(studies, size)
        found += [real.draw(1, chance)[0] for _ in range(40)]
    return found
