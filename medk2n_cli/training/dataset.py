"""What a training step eats: crops of simulated heads and of real studies, one subset of modalities per batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.training.simulate.draw import draw_study
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.render import HeadTensors, Window, render

SLOTS = list(Modality)
LESION_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice with neighbours. `acquired` (M, C, H, W), `truth` (M, H, W) float16, `weight` (H, W): loss weight."""

    acquired: Tensor
    truth: Tensor
    weight: Tensor
    slots: tuple[int, ...]  # which rows are filled


@dataclass(frozen=True, eq=False)
class Batch:
    """images (B, K, C, H, W), truth (B, N, H, W), weight (B, H, W), have (K), want (N)."""

    images: Tensor
    truth: Tensor
    weight: Tensor
    have: Tensor
    want: Tensor


def collate(samples: list[Sample], have: list[int], want: list[int], chance: np.random.Generator) -> Batch:
    """Samples that all hold `have` and `want` -> Batch; each sample mirrored in half of the cases."""
    images, truth, weight = [], [], []
    for sample in samples:
        parts = sample.acquired[have].float(), sample.truth[want].float(), sample.weight.float()
        if chance.random() < 0.5:
            parts = tuple(p.flip(-1) for p in parts)  # type: ignore[assignment]
        images.append(parts[0])
        truth.append(parts[1])
        weight.append(parts[2])
    return Batch(torch.stack(images), torch.stack(truth), torch.stack(weight), torch.tensor(have), torch.tensor(want))


class SimulatedPool:
    """Rendered crops kept in memory; each step replaces a few, so that rendering is not what training waits for."""

    def __init__(self, heads: list[Head], crop: tuple[int, int], size: int, seed: int, device: torch.device) -> None:
        self._heads = [HeadTensors.of(h, device) for h in heads]
        self._crop, self._size = crop, size
        self._rng = np.random.default_rng(seed)
        self._samples: list[Sample] = []
        self._next = 0

    def refresh(self, count: int) -> None:
        """Render `count` new samples; the oldest make room."""
        for _ in range(count):
            sample = self._render()
            if len(self._samples) < self._size:
                self._samples.append(sample)
            else:
                self._samples[self._next % self._size] = sample
                self._next += 1

    def draw(self, count: int, chance: np.random.Generator) -> list[Sample]:
        """`count` samples; every one holds all six contrasts."""
        return [self._samples[i] for i in chance.integers(len(self._samples), size=count)]

    def _render(self) -> Sample:
        rng = self._rng
        source = self._heads[rng.integers(len(self._heads))]
        draw = draw_study(source.head, int(rng.integers(2**31)))
        box = np.array(source.head.brain_box, dtype=float)
        half = (box[1] - box[0]) / 2
        reach = np.maximum(half + 8 - np.array([self._crop[1], self._crop[0], 0]) / 2, 0)
        reach[2] = half[2] + 8
        centre = rng.uniform(-reach, reach)
        window = Window((float(centre[0]), float(centre[1]), float(centre[2])), self._crop, 3)
        out = render(source, draw, window, SLOTS)
        weight = 0.05 + 0.95 * out.head[1].float() + (LESION_WEIGHT - 1) * (out.lesion[1] > 0)
        return Sample(
            torch.stack([out.acquired[m] for m in SLOTS]).half().cpu(),
            torch.stack([out.clean[m][1] for m in SLOTS]).half().cpu(),
            weight.half().cpu(),
            tuple(range(len(SLOTS))),
        )


@dataclass(frozen=True, eq=False)
class PackedStudy:
    """A real study as the tool packs it: images (m, S, H, W) float16 on the network's scale, head (S, H, W)."""

    name: str
    images: Tensor
    slots: tuple[int, ...]
    head: Tensor

    @classmethod
    def load(cls, file: Path) -> PackedStudy:
        """Read what `training prepare` wrote."""
        z = np.load(file)
        return cls(file.stem, torch.from_numpy(z["images"]), tuple(z["slots"].tolist()), torch.from_numpy(z["head"]))


class RealStudies:
    """Random crops of packed studies; a batch comes from one study, since studies hold different contrasts."""

    def __init__(self, studies: list[PackedStudy], crop: tuple[int, int]) -> None:
        self._studies, self._crop = studies, crop
        self._slices = [torch.nonzero(s.head.flatten(1).float().mean(1) > 0.02)[:, 0] for s in studies]
        # A study counts by its contrasts: more of them say more about how contrasts relate.
        share = np.array([(len(s.slots) - 1.0) ** 1.5 for s in studies])
        self._share = share / share.sum()

    def draw(self, count: int, chance: np.random.Generator) -> list[Sample]:
        """`count` crops of one study."""
        number = int(chance.choice(len(self._studies), p=self._share))
        study, slices = self._studies[number], self._slices[number]
        return [self._sample(study, int(slices[chance.integers(len(slices))]), chance) for _ in range(count)]

    def _sample(self, study: PackedStudy, centre: int, chance: np.random.Generator) -> Sample:
        depth = study.images.shape[1]
        around = [min(max(centre + d, 0), depth - 1) for d in (-1, 0, 1)]
        rows, columns = _corner(study.head[centre], self._crop, chance)
        part = _cut(study.images[:, around], rows, columns, self._crop)
        head = _cut(study.head[centre], rows, columns, self._crop)
        acquired = torch.zeros(len(SLOTS), *part.shape[1:], dtype=torch.float16)
        part, head = _turned(part.float(), head.float(), chance)
        acquired[list(study.slots)] = _reacquired(part, chance).half()
        truth = torch.zeros(len(SLOTS), *part.shape[2:], dtype=torch.float16)
        truth[list(study.slots)] = part[:, 1].half()
        return Sample(acquired, truth, (0.05 + 0.95 * head).half(), study.slots)


def _turned(images: Tensor, head: Tensor, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotated by about 6 degrees and scaled by about 6 % in plane, all contrasts alike; half of the crops stay."""
    if chance.random() < 0.5:
        return images, head
    angle, scale = chance.normal(0, 0.1), chance.normal(1, 0.06)
    c, s = float(np.cos(angle) * scale), float(np.sin(angle) * scale)
    grid = F.affine_grid(torch.tensor([[[c, -s, 0.0], [s, c, 0.0]]]), [1, 1, *head.shape], align_corners=False)
    stack = torch.cat([images.flatten(0, 1), head[None]])
    moved = F.grid_sample(stack[None], grid, align_corners=False)[0]
    return moved[:-1].reshape(images.shape), (moved[-1] > 0.5).float()


def _reacquired(images: Tensor, chance: np.random.Generator) -> Tensor:
    """Another coil profile, a small error of scale and a little noise for each contrast (m, C, H, W)."""
    m = images.shape[0]
    field = torch.from_numpy(chance.normal(0, chance.uniform(0, 0.1), (m, 1, 4, 4)).astype(np.float32))
    field = F.interpolate(field, size=images.shape[-2:], mode="bicubic", align_corners=True)
    gain = torch.from_numpy(chance.normal(1.0, 0.04, (m, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy((chance.standard_normal(images.shape) * chance.uniform(0, 0.025, (m, 1, 1, 1))).astype(np.float32))
    return ((images * field.exp() * gain + noise) * (images > 0)).clamp(0, 2)


def _corner(head: Tensor, crop: tuple[int, int], chance: np.random.Generator) -> tuple[int, int]:
    """Upper left corner of a crop whose centre lies in the head."""
    inside = torch.nonzero(head)
    point = inside[chance.integers(len(inside))] if len(inside) else torch.tensor(head.shape) // 2
    corner = []
    for axis in range(2):
        low, high = 0, max(0, head.shape[axis] - crop[axis])
        corner.append(int(min(max(int(point[axis]) - crop[axis] // 2, low), high)))
    return corner[0], corner[1]


def _cut(array: Tensor, row: int, column: int, crop: tuple[int, int]) -> Tensor:
    """A crop, padded with zeros where the array is smaller."""
    part = array[..., row : row + crop[0], column : column + crop[1]]
    pad = (0, crop[1] - part.shape[-1], 0, crop[0] - part.shape[-2])
    return F.pad(part, pad) if any(pad) else part
