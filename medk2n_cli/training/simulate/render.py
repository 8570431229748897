"""Effect, split from chance: a Draw and a Head give images of any window of the study, on CPU or GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.packing.normalise import ADC_TOP_MM2_S, LOW_PERCENTILE, MEDIAN_VALUE, TOP, anchored
from medk2n_cli.training.simulate.anatomy import (
    HeadTensors,
    among,
    dilated,
    filled,
    filled_samples,
    look_up,
    smooth_field,
    with_lesions,
    with_scalp,
)
from medk2n_cli.training.simulate.draw import Acquisition, Draw
from medk2n_cli.training.simulate.sequence import TissueMaps, signal
from medk2n_cli.training.simulate.tissue import BRAIN, CLASS, LESIONS

_CLEAN_BLUR_MM = 0.5
_HALO_MM = 3
_FINE_MM = 1.0  # step of the fine lattice through the slices
_ELASTIC_SPAN_MM, _BIAS_SPAN_MM = 240.0, 240.0


@dataclass(frozen=True)
class Window:
    """Which part of the study to render: an axial stack around a centre.

    Attributes:
        centre: (3,) mm from the centre of the brain, to L, P, S.
        shape: (H, W) rows (P) and columns (L), 1 mm each.
        slices: how many, at the study's own spacing.
    """

    centre: tuple[float, float, float]
    shape: tuple[int, int]
    slices: int


@dataclass(frozen=True, eq=False)
class Rendered:
    """A window of a study: images by modality on the network's scale.

    Attributes:
        acquired: (slices, H, W) with noise, bias and misalignment: what a scanner would give.
        clean: (slices, H, W) without them: what a network should answer.
        head: (slices, H, W) bool.
        lesion: (slices, H, W) uint8 class of a lesion, else 0.
        tissue: (slices, H, W) uint8 class of everything in the head (`TISSUES`).
    """

    acquired: dict[Modality, Tensor]
    clean: dict[Modality, Tensor]
    head: Tensor
    lesion: Tensor
    tissue: Tensor


def render(source: HeadTensors, draw: Draw, window: Window, modalities: list[Modality]) -> Rendered:
    """Images of `modalities` in `window`; the same arguments always give the same images."""
    device = source.classes.device
    chance = torch.Generator(device=device).manual_seed(draw.seed * 7919 + int(window.centre[2] * 8) + 1)
    points, fine = _points(draw, window, device)
    inside = _deform(points, draw, source)
    classes, to_brain = look_up(source, inside)
    classes = filled(classes, draw, chance)
    classes, lesion = with_lesions(classes, inside, draw, chance)
    if draw.strip_mm is None:
        classes = with_scalp(classes, draw.scalp)
    else:
        classes = torch.where((to_brain <= draw.strip_mm) & among(classes, BRAIN + LESIONS), classes, 0)
    maps = _maps(classes, draw, chance)
    middle = fine.middles
    head = classes > 0 if draw.strip_mm is not None else dilated(classes > 0, draw.scalp.air)
    out = Rendered({}, {}, head[middle], lesion[middle].to(torch.uint8), classes[middle].to(torch.uint8))
    for modality in modalities:
        acquisition = draw.acquisitions[modality]
        true = signal(acquisition.sequence, maps)
        low, gain = _scale(source, draw, modality)
        sharp = _blur(fine.slices(true, max(1.0, draw.spacing)), _CLEAN_BLUR_MM)
        out.clean[modality] = ((sharp - low) * gain).clamp(0, TOP) * out.head
        seen = _blur(fine.slices(true, acquisition.thickness), acquisition.blur_mm)
        noisy = (_acquire(seen, acquisition, points[middle], low, gain, chance) - low) * gain * (1 + acquisition.scale_error)
        out.acquired[modality] = _filtered(noisy.clamp(0, TOP), acquisition.gamma).clamp(0, TOP) * out.head
    return out


def _filtered(image: Tensor, gamma: float) -> Tensor:
    """Grey values bent around the median, as vendors' filters do."""
    return image if gamma == 1 else MEDIAN_VALUE * (image / MEDIAN_VALUE) ** gamma


@dataclass(frozen=True)
class _Fine:
    """A stack at `_FINE_MM` that covers slices at `spacing`."""

    depth: int
    slices_at: tuple[float, ...]  # position of each slice in the fine stack

    @property
    def middles(self) -> list[int]:
        return [round(s) for s in self.slices_at]

    def slices(self, fine: Tensor, thickness: float) -> Tensor:
        """Fine (depth, H, W) -> (slices, H, W) through a Gaussian slice profile."""
        sigma = max(thickness / 2.355, 0.3) / _FINE_MM
        position = torch.arange(self.depth, device=fine.device, dtype=fine.dtype)
        at = torch.tensor(self.slices_at, device=fine.device, dtype=fine.dtype)
        weight = torch.exp(-0.5 * ((position - at[:, None]) / sigma) ** 2)
        averaged: Tensor = torch.tensordot(weight / weight.sum(1, keepdim=True), fine, 1)
        return averaged


def _points(draw: Draw, window: Window, device: torch.device) -> tuple[Tensor, _Fine]:
    """(depth, H, W, 3) mm from the brain's centre, to L, P, S; H runs to P and W to L."""
    height, width = window.shape
    span = (window.slices - 1) * draw.spacing
    margin = 0.6 * max(a.thickness for a in draw.acquisitions.values()) + 0.5
    depth = round((span + 2 * margin) / _FINE_MM) + 1
    start = -(depth - 1) * _FINE_MM / 2
    fine = _Fine(depth, tuple((-span / 2 + s * draw.spacing - start) / _FINE_MM for s in range(window.slices)))
    z = torch.arange(depth, device=device) * _FINE_MM + start + window.centre[2]
    y = torch.arange(height, device=device) - (height - 1) / 2 + window.centre[1]
    x = torch.arange(width, device=device) - (width - 1) / 2 + window.centre[0]
    grid = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack(grid[::-1], -1).float(), fine


def _deform(points: Tensor, draw: Draw, source: HeadTensors) -> Tensor:
    """Output mm -> index of the label map (..., 3)."""
    elastic = smooth_field(draw.elastic, points, _ELASTIC_SPAN_MM).movedim(0, -1)
    pose = torch.from_numpy(draw.pose).to(points.device)
    centre = torch.from_numpy(source.brain_centre).to(points)
    return (points + elastic) @ pose.T + centre


def _maps(classes: Tensor, draw: Draw, chance: torch.Generator) -> TissueMaps:
    """Class -> relaxation maps with texture that all contrasts share (it is the tissue that varies)."""
    table = torch.from_numpy(draw.tissue).to(classes.device)
    values = table[classes].movedim(-1, 0)
    amplitude = torch.from_numpy(draw.texture).to(classes.device)
    texture = 1 + amplitude[:, None, None, None] * _texture((4, *classes.shape), chance)
    t1, t2, pd, adc = (values[:4] * texture).unbind(0)
    if draw.fullness.halo:
        beside = dilated(classes == CLASS["ventricular CSF"], _HALO_MM) & (classes == CLASS["white matter"])
        t1, t2 = t1 * (1 + 0.6 * draw.fullness.halo * beside), t2 * (1 + draw.fullness.halo * beside)
    return TissueMaps(t1, t2, pd, adc, *values[4:])


def _texture(shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """Unit-variance noise at four scales: 1, 4, 16 and 48 mm."""
    total = torch.randn(shape, generator=chance, device=chance.device) * 0.5
    for step, weight in ((4, 1.3), (16, 1.5), (48, 1.5)):
        coarse = [max(2, -(-n // step) + 1) for n in shape[1:]]
        noise = torch.randn((1, shape[0], *coarse), generator=chance, device=chance.device)
        total += weight * F.interpolate(noise, size=shape[1:], mode="trilinear", align_corners=True)[0]
    return total / 1.7


def _blur(image: Tensor, sigma: float) -> Tensor:
    """In-plane Gaussian point spread, sigma in pixels (1 mm)."""
    reach = 2 if sigma < 0.8 else 3
    at = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    image = F.conv2d(image[:, None], kernel[None, None, :, None], padding=(reach, 0))
    return F.conv2d(image, kernel[None, None, None], padding=(0, reach))[:, 0]


def _acquire(sharp: Tensor, how: Acquisition, points: Tensor, low: float, gain: float, chance: torch.Generator) -> Tensor:
    """Coil profile, residual shift and Rician noise."""
    image = sharp * torch.exp(smooth_field(how.bias, points, _BIAS_SPAN_MM)[0])
    if any(how.shift_mm):
        height, width = image.shape[-2:]
        move = torch.tensor([[1, 0, 2 * how.shift_mm[0] / width], [0, 1, 2 * how.shift_mm[1] / height]], device=image.device)
        grid = F.affine_grid(move[None].float(), [1, 1, height, width], align_corners=False).expand(len(image), -1, -1, -1)
        image = F.grid_sample(image[:, None], grid, align_corners=False)[:, 0]
    sigma = how.noise * (MEDIAN_VALUE / gain + low)  # relative to the median of the deep head
    noise = torch.randn((2, *image.shape), generator=chance, device=chance.device) * sigma
    return torch.sqrt((image + noise[0]) ** 2 + noise[1] ** 2) if how.sequence.kind != "ADC" else image + noise[0]


def _scale(source: HeadTensors, draw: Draw, modality: Modality) -> tuple[float, float]:
    """(low, gain) of the tool's normalisation, estimated on a sample of deep neighbourhoods without lesions."""
    if modality.is_quantitative:
        return 0.0, TOP / (ADC_TOP_MM2_S * 1e3)
    deep = source.deep_whole if draw.strip_mm is None else source.deep_stripped
    table = torch.from_numpy(draw.tissue).to(deep.device)
    how = draw.acquisitions[modality]
    by_class = signal(how.sequence, TissueMaps(*table.T))
    chance = torch.Generator(device=deep.device).manual_seed(draw.seed)
    values = by_class[filled_samples(deep, draw, chance).long()] @ _profile(how.blur_mm, how.thickness, deep.device)
    values = values * (1 + 0.1 * torch.randn(values.shape, generator=chance, device=deep.device))
    q = torch.quantile(values, torch.tensor([LOW_PERCENTILE / 100, 0.5], device=deep.device))
    low, median = q.tolist()
    scale = anchored(modality, low, max(median, low + 1e-4))
    return scale.low, scale.gain


def _profile(blur_mm: float, thickness: float, device: torch.device) -> Tensor:
    """(27,) weights of a 3x3x3 neighbourhood under in-plane blur and slice profile."""
    at = torch.tensor([-1.0, 0.0, 1.0], device=device)
    plane = torch.exp(-0.5 * (at / blur_mm) ** 2)
    through = torch.exp(-0.5 * (at / max(thickness / 2.355, 0.3)) ** 2)
    weight = torch.einsum("i,j,k->ijk", plane, plane, through).flatten()
    return weight / weight.sum()
