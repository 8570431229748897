"""Auxiliaries that should not be let in: what training shows the gates, and what the gate test uses."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("noise", "blur", "ghost", "shift", "mirror", "wrong modality", "another subject")


def corrupt(kind: str, images: Tensor, strangers: Tensor, aux: int, chance: torch.Generator) -> Tensor:
    """A copy of `images` (B, K, C, H, W) whose input number `aux` is spoiled.

    strangers: as `images`, the same contrasts of other subjects at about the same place.

    Raises:
        ValueError: `kind` is none of `KINDS`.
    """
    spoiled = images.clone()
    x = images[:, aux]
    if kind == "noise":
        spoiled[:, aux] = _noisy(x, chance)
    elif kind == "blur":
        spoiled[:, aux] = _blurred(x, 9 + 4 * int(3 * _uniform(chance)))
    elif kind == "ghost":
        step = int(x.shape[-2] * (0.15 + 0.25 * _uniform(chance)))
        spoiled[:, aux] = (0.55 * x + 0.5 * x.roll(step, -2) + 0.35 * x.roll(-step, -2)).clamp(0, 2)
    elif kind == "shift":
        spoiled[:, aux] = shifted(x, 7 + int(9 * _uniform(chance)), chance)
    elif kind == "mirror":
        spoiled[:, aux] = x.flip(-1)
    elif kind == "wrong modality":
        other = (aux + 1 + int(_uniform(chance) * (images.shape[1] - 1))) % images.shape[1]
        spoiled[:, aux] = images[:, other]
    elif kind == "another subject":
        spoiled[:, aux] = strangers[:, aux]
    else:
        raise ValueError(f"{kind} is none of {KINDS}")
    return spoiled


def _noisy(x: Tensor, chance: torch.Generator) -> Tensor:
    """Noise with some of the image left or none, over everything or inside the head alone, plain or smooth."""
    noise = torch.randn(x.shape, generator=chance)
    if _uniform(chance) < 0.25:
        noise = torch.nn.functional.avg_pool2d(noise.flatten(0, -3)[:, None], 3, stride=1, padding=1).reshape(x.shape) * 3
    left = 0.6 * _uniform(chance) if _uniform(chance) < 0.4 else 0.0
    noisy = x * left + (0.2 + 0.5 * _uniform(chance)) * noise.abs()
    return (noisy * (x > 0) if _uniform(chance) < 0.5 else noisy).clamp(0, 2)


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
