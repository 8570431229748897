"""Auxiliaries that should not be let in: what training shows the gates, and what the gate test uses."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("noise", "blur", "ghost", "shift", "wrong modality", "another subject")


def corrupt(kind: str, images: Tensor, aux: int, chance: torch.Generator) -> Tensor:
    """A copy of `images` (B, K, C, H, W) whose input number `aux` is spoiled.

    Raises:
        ValueError: `kind` is none of `KINDS`.
    """
    spoiled = images.clone()
    x = images[:, aux]
    if kind == "noise":
        level = 0.25 + 0.35 * _uniform(chance)
        spoiled[:, aux] = (x * (0.6 * _uniform(chance)) + level * torch.randn(x.shape, generator=chance).abs()).clamp(0, 2)
    elif kind == "blur":
        spoiled[:, aux] = _blurred(x, 9 + 4 * int(3 * _uniform(chance)))
    elif kind == "ghost":
        step = int(x.shape[-2] * (0.15 + 0.25 * _uniform(chance)))
        spoiled[:, aux] = (0.55 * x + 0.5 * x.roll(step, -2) + 0.35 * x.roll(-step, -2)).clamp(0, 2)
    elif kind == "shift":
        spoiled[:, aux] = shifted(x, 8 + int(8 * _uniform(chance)), chance)
    elif kind == "wrong modality":
        other = (aux + 1 + int(_uniform(chance) * (images.shape[1] - 1))) % images.shape[1]
        spoiled[:, aux] = images[:, other]
    elif kind == "another subject":
        spoiled[:, aux] = x.roll(1, 0)
    else:
        raise ValueError(f"{kind} is none of {KINDS}")
    return spoiled


def shifted(images: Tensor, pixels: int, chance: torch.Generator) -> Tensor:
    """Moved in plane by `pixels` in a random direction, zeros moved in."""
    angle = 6.2832 * _uniform(chance)
    dy, dx = round(pixels * torch.tensor(angle).sin().item()), round(pixels * torch.tensor(angle).cos().item())
    moved = images.roll((dy, dx), (-2, -1))
    if dy:
        moved[..., slice(0, dy) if dy > 0 else slice(dy, None), :] = 0
    if dx:
        moved[..., :, slice(0, dx) if dx > 0 else slice(dx, None)] = 0
    return moved


def _blurred(x: Tensor, size: int) -> Tensor:
    flat = x.flatten(0, -3)[:, None]
    for _ in range(2):
        flat = torch.nn.functional.avg_pool2d(flat, size, stride=1, padding=size // 2, count_include_pad=False)
    return flat.reshape(x.shape)


def _uniform(chance: torch.Generator) -> float:
    return float(torch.rand((), generator=chance))
