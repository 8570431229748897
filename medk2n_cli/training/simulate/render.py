"""Effect, split from chance: a Draw and a Head give images of any window of the study, on CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from medk2n_cli.core.modality import Modality
from medk2n_cli.packing.normalise import ADC_TOP_MM2_S, LOW_PERCENTILE, MEDIAN_VALUE, TOP, anchored
from medk2n_cli.training.simulate.draw import Acquisition, Draw, Lesion
from medk2n_cli.training.simulate.heads import FAR_MM, Head
from medk2n_cli.training.simulate.sequence import TissueMaps, signal
from medk2n_cli.training.simulate.tissue import BRAIN, CLASS, LESIONS, SOLID_BRAIN, TISSUES, WHITE

_CLEAN_BLUR_MM = 0.5
_HALO_MM = 3
_LESION_REACH = 1.6  # radii; a roughened lesion ends before
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
    """

    acquired: dict[Modality, Tensor]
    clean: dict[Modality, Tensor]
    head: Tensor
    lesion: Tensor


@dataclass(frozen=True, eq=False)
class HeadTensors:
    """A Head on a device."""

    head: Head
    classes: Tensor
    to_brain: Tensor
    deep_whole: Tensor
    deep_stripped: Tensor

    @classmethod
    def of(cls, head: Head, device: torch.device) -> HeadTensors:
        """Copy what rendering needs to `device`."""
        put = (torch.from_numpy(a).to(device) for a in (head.classes, head.to_brain, head.deep_whole, head.deep_stripped))
        return cls(head, *put)

    @property
    def brain_centre(self) -> NDArray[np.float64]:
        """(3,) index of the middle of the brain."""
        return np.asarray(np.mean(self.head.brain_box, axis=0))


def render(source: HeadTensors, draw: Draw, window: Window, modalities: list[Modality]) -> Rendered:
    """Images of `modalities` in `window`; the same arguments always give the same images."""
    device = source.classes.device
    chance = torch.Generator(device=device).manual_seed(draw.seed * 7919 + int(window.centre[2] * 8) + 1)
    points, fine = _points(draw, window, device)
    inside = _deform(points, draw, source)
    classes, to_brain = _look_up(source, inside)
    classes = _filled(classes, draw, chance)
    classes, lesion = _with_lesions(classes, inside, draw, chance)
    if draw.strip_mm is not None:
        classes = torch.where((to_brain <= draw.strip_mm) & _among(classes, BRAIN + LESIONS), classes, 0)
    maps = _maps(classes, draw, chance)
    middle = fine.middles
    out = Rendered({}, {}, classes[middle] > 0, lesion[middle].to(torch.uint8))
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


def smooth_field(controls: NDArray[np.float32], points: Tensor, span_mm: float) -> Tensor:
    """(C, a, b, c) control values spread over a cube of `span_mm` -> (C, ...) at `points` (mm), trilinear."""
    control = torch.from_numpy(np.atleast_1d(controls)).to(points.device)
    control = control[None] if control.ndim == 4 else control[None, None]
    where = (points / (span_mm / 2)).reshape(1, -1, 1, 1, 3)  # x indexes the last axis, so controls are [z, y, x]
    field = F.grid_sample(control, where, align_corners=True, padding_mode="border")
    return field.reshape(control.shape[1], *points.shape[:-1])


def _deform(points: Tensor, draw: Draw, source: HeadTensors) -> Tensor:
    """Output mm -> index of the label map (..., 3)."""
    elastic = smooth_field(draw.elastic, points, _ELASTIC_SPAN_MM).movedim(0, -1)
    pose = torch.from_numpy(draw.pose).to(points.device)
    centre = torch.from_numpy(source.brain_centre).to(points)
    return (points + elastic) @ pose.T + centre


def _look_up(source: HeadTensors, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest class (int64) and distance to the brain at index positions; air outside the map."""
    size = torch.tensor(source.classes.shape, device=inside.device)
    index = inside.round().long()
    outside = ((index < 0) | (index >= size)).any(-1)
    i, j, k = index.clamp_min(0).minimum(size - 1).unbind(-1)
    flat = (i * size[1] + j) * size[2] + k
    classes = source.classes.flatten()[flat].long().masked_fill(outside, 0)
    return classes, source.to_brain.flatten()[flat].masked_fill(outside, FAR_MM)


def _dilated(mask: Tensor, reach: int) -> Tensor:
    """(D, H, W) bool grown by `reach` voxels along each axis."""
    grown, size = mask[None, None].to(torch.float32), 2 * reach + 1
    for axis in range(3):
        window, pad = [1, 1, 1], [0, 0, 0]
        window[axis], pad[axis] = size, reach
        grown = F.max_pool3d(grown, window, stride=1, padding=pad)
    return grown[0, 0] > 0


def _filled(classes: Tensor, draw: Draw, chance: torch.Generator) -> Tensor:
    """Cortex grown into the fluid around it, white matter into the ventricles."""
    outer, ventricle = CLASS["outer CSF"], CLASS["ventricular CSF"]
    for grey in (CLASS["cortex"], CLASS["cerebellar cortex"]) if draw.fullness.sulci else ():
        here = classes == grey
        if bool(here.any()):
            some = torch.rand(classes.shape, generator=chance, device=classes.device) < draw.fullness.sulci
            classes = torch.where(_dilated(here, 1) & (classes == outer) & some, grey, classes)
    for _ in range(draw.fullness.ventricles):
        if not bool((classes == ventricle).any()):
            break
        near = _dilated(_among(classes, WHITE), 1)
        classes = torch.where(near & (classes == ventricle), CLASS["white matter"], classes)
    return classes


def _with_lesions(classes: Tensor, inside: Tensor, draw: Draw, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lesions overwrite tissue: MS lesions and oedema white matter only, tumours and strokes any solid brain."""
    lesion = torch.zeros_like(classes)
    if not draw.lesions:
        return classes, lesion
    white, brain = _among(classes, WHITE), _among(classes, SOLID_BRAIN)
    for one in draw.lesions:
        offset = inside - torch.tensor(one.centre, device=inside.device)
        near = (offset.abs() < _LESION_REACH * max(one.radii)).all(-1)
        if not bool(near.any()):
            continue
        distance, found = _ellipsoid_distance(offset[near], one, draw.seed), lesion[near]
        for name, share in one.layers:
            only_white = name in ("MS lesion", "enhancing MS lesion", "oedema")
            where = (distance < share) & (white if only_white else brain)[near]
            found = torch.where(where, CLASS[name], found)
        lesion[near] = found
    return torch.where(lesion > 0, lesion, classes), lesion


def _among(classes: Tensor, numbers: Sequence[int]) -> Tensor:
    """Where `classes` is one of `numbers`; looking it up in a table is several times faster than `torch.isin`."""
    table = torch.zeros(len(TISSUES), dtype=torch.bool, device=classes.device)
    table[list(numbers)] = True
    return table[classes]


def _ellipsoid_distance(offset: Tensor, lesion: Lesion, seed: int) -> Tensor:
    """(n, 3) offsets from the centre -> (n): 1 on the surface; roughened by a smooth random field of the lesion's own."""
    relative = offset / torch.tensor(lesion.radii, device=offset.device)
    distance: Tensor = relative.norm(dim=-1)
    rng = np.random.default_rng([seed, int(lesion.centre[0] * 7 + lesion.centre[1] * 911 + lesion.centre[2] * 5077)])
    rough = rng.normal(0, lesion.roughness, (7, 7, 7)).astype(np.float32)
    return distance + smooth_field(rough, relative, 3.0)[0]


def _maps(classes: Tensor, draw: Draw, chance: torch.Generator) -> TissueMaps:
    """Class -> relaxation maps with texture that all contrasts share (it is the tissue that varies)."""
    table = torch.from_numpy(draw.tissue).to(classes.device)
    values = table[classes].movedim(-1, 0)
    amplitude = torch.from_numpy(draw.texture).to(classes.device)
    texture = 1 + amplitude[:, None, None, None] * _texture((4, *classes.shape), chance)
    t1, t2, pd, adc = (values[:4] * texture).unbind(0)
    if draw.fullness.halo:
        beside = _dilated(classes == CLASS["ventricular CSF"], _HALO_MM) & (classes == CLASS["white matter"])
        t1, t2 = t1 * (1 + 0.6 * draw.fullness.halo * beside), t2 * (1 + draw.fullness.halo * beside)
    return TissueMaps(t1, t2, pd, adc, values[4], values[5])


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
    values = by_class[_filled_samples(deep, draw, chance).long()] @ _profile(how.blur_mm, how.thickness, deep.device)
    values = values * (1 + 0.08 * torch.randn(values.shape, generator=chance, device=deep.device))
    q = torch.quantile(values, torch.tensor([LOW_PERCENTILE / 100, 0.5], device=deep.device))
    low, median = q.tolist()
    scale = anchored(modality, low, max(median, low + 1e-4))
    return scale.low, scale.gain


def _filled_samples(deep: Tensor, draw: Draw, chance: torch.Generator) -> Tensor:
    """`_filled` for (n, 27) neighbourhoods, about as far as one step goes."""
    full = draw.fullness
    steps = ((full.sulci, "outer CSF", "cortex"), (min(1.0, full.ventricles), "ventricular CSF", "white matter"))
    for share, fluid, tissue in steps:
        near = (deep == CLASS[tissue]).any(1, keepdim=True)
        some = torch.rand(deep.shape, generator=chance, device=deep.device) < share
        deep = torch.where(near & (deep == CLASS[fluid]) & some, CLASS[tissue], deep)
    return deep


def _profile(blur_mm: float, thickness: float, device: torch.device) -> Tensor:
    """(27,) weights of a 3x3x3 neighbourhood under in-plane blur and slice profile."""
    at = torch.tensor([-1.0, 0.0, 1.0], device=device)
    plane = torch.exp(-0.5 * (at / blur_mm) ** 2)
    through = torch.exp(-0.5 * (at / max(thickness / 2.355, 0.3)) ** 2)
    weight = torch.einsum("i,j,k->ijk", plane, plane, through).flatten()
    return weight / weight.sum()
