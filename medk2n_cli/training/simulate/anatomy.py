"""What lies where in a simulated head: classes looked up, fluid spaces narrowed, lesions laid in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from medk2n_cli.training.simulate.draw import Draw, Lesion, Scalp
from medk2n_cli.training.simulate.heads import FAR_MM, Head
from medk2n_cli.training.simulate.tissue import CLASS, SOLID_BRAIN, TISSUES, WHITE

_LESION_REACH = 1.6  # radii; a roughened lesion ends before


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


def smooth_field(controls: NDArray[np.float32], points: Tensor, span_mm: float) -> Tensor:
    """(C, a, b, c) control values spread over a cube of `span_mm` -> (C, ...) at `points` (mm), trilinear."""
    control = torch.from_numpy(np.atleast_1d(controls)).to(points.device)
    control = control[None] if control.ndim == 4 else control[None, None]
    where = (points / (span_mm / 2)).reshape(1, -1, 1, 1, 3)  # x indexes the last axis, so controls are [z, y, x]
    field = F.grid_sample(control, where, align_corners=True, padding_mode="border")
    return field.reshape(control.shape[1], *points.shape[:-1])


def look_up(source: HeadTensors, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest class (int64) and distance to the brain at index positions; air outside the map."""
    size = torch.tensor(source.classes.shape, device=inside.device)
    index = inside.round().long()
    outside = ((index < 0) | (index >= size)).any(-1)
    i, j, k = index.clamp_min(0).minimum(size - 1).unbind(-1)
    flat = (i * size[1] + j) * size[2] + k
    classes = source.classes.flatten()[flat].long().masked_fill(outside, 0)
    return classes, source.to_brain.flatten()[flat].masked_fill(outside, FAR_MM)


def dilated(mask: Tensor, reach: int) -> Tensor:
    """(D, H, W) bool grown by `reach` voxels along each axis."""
    grown, size = mask[None, None].to(torch.float32), 2 * reach + 1
    for axis in range(3):
        window, pad = [1, 1, 1], [0, 0, 0]
        window[axis], pad[axis] = size, reach
        grown = F.max_pool3d(grown, window, stride=1, padding=pad)
    return grown[0, 0] > 0


def filled(classes: Tensor, draw: Draw, chance: torch.Generator) -> Tensor:
    """Cortex grown into the fluid around it, white matter into the ventricles."""
    outer, ventricle = CLASS["outer CSF"], CLASS["ventricular CSF"]
    for grey in (CLASS["cortex"], CLASS["cerebellar cortex"]) if draw.fullness.sulci else ():
        here = classes == grey
        if bool(here.any()):
            some = torch.rand(classes.shape, generator=chance, device=classes.device) < draw.fullness.sulci
            classes = torch.where(dilated(here, 1) & (classes == outer) & some, grey, classes)
    for _ in range(draw.fullness.ventricles):
        if not bool((classes == ventricle).any()):
            break
        near = dilated(among(classes, WHITE), 1)
        classes = torch.where(near & (classes == ventricle), CLASS["white matter"], classes)
    return classes


def with_scalp(classes: Tensor, scalp: Scalp) -> Tensor:
    """Fat grown into the air outside, its outermost layer skin."""
    fat = CLASS["skin and fat"]
    classes = torch.where(dilated(classes == fat, scalp.fat) & (classes == 0), fat, classes)
    return torch.where(dilated(classes == 0, scalp.skin) & (classes == fat), CLASS["muscle"], classes)


def with_lesions(classes: Tensor, inside: Tensor, draw: Draw, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lesions overwrite tissue: MS lesions and oedema white matter only, tumours and strokes any solid brain."""
    lesion = torch.zeros_like(classes)
    if not draw.lesions:
        return classes, lesion
    white, brain = among(classes, WHITE), among(classes, SOLID_BRAIN)
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


def among(classes: Tensor, numbers: Sequence[int]) -> Tensor:
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


def filled_samples(deep: Tensor, draw: Draw, chance: torch.Generator) -> Tensor:
    """`filled` for (n, 27) neighbourhoods, about as far as one step goes."""
    full = draw.fullness
    steps = ((full.sulci, "outer CSF", "cortex"), (min(1.0, full.ventricles), "ventricular CSF", "white matter"))
    for share, fluid, tissue in steps:
        near = (deep == CLASS[tissue]).any(1, keepdim=True)
        some = torch.rand(deep.shape, generator=chance, device=deep.device) < share
        deep = torch.where(near & (deep == CLASS[fluid]) & some, CLASS[tissue], deep)
    return deep
