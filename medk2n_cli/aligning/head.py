"""Where the head is, whether its skull was removed, and which part normalisation measures. From inputs only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli import itk
from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import DEEP_STRIPPED_MM, DEEP_WHOLE_MM, HEAD_HEIGHT_MM, Volume

# Measured on twelve real studies: 0.00-0.17 of a stripped brain's ring is dark, 0.29-0.82 of a whole head's.
_DARK, _RING_MM, _MIN_DARK_SHARE = 0.5, (4.0, 14.0), 0.22
_MIN_HEAD_ML, _COARSE_MM = 100.0, 2.0

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class HeadMasks:
    """`head`, `deep` (I, J, K) bool as `AlignedStudy` wants them; `stripped`: the skull is gone."""

    head: BoolArray
    deep: BoolArray
    stripped: bool


def find_head(volumes: Mapping[Modality, Volume], grid: Grid) -> HeadMasks:
    """Masks from all volumes together; they lie on `grid` already.

    Raises:
        StudyError: nothing that looks like a head (less than 100 ml above the background).
    """
    picture = _picture(volumes)
    head = _largest(picture > 0.12, grid)
    if head.sum() * np.prod(grid.spacing) < _MIN_HEAD_ML * 1000:
        raise StudyError(
            "No head found in the images.",
            next_step="Check that the files are whole brain volumes; look at them with medk2n scan.",
            code="NO_HEAD",
        )
    depth = _depth(head, grid)
    stripped = not _has_skull(volumes, depth)
    deep = _deep(depth, head, grid, stripped)
    return HeadMasks(head, deep, stripped)


def _picture(volumes: Mapping[Modality, Volume]) -> NDArray[np.float32]:
    """Intensity relative to bright tissue, mean of the volumes that reach a voxel (a quantitative map only if nothing else)."""
    use = [v for m, v in volumes.items() if not m.is_quantitative] or list(volumes.values())
    total, seen_by = np.zeros((2, *use[0].array.shape), np.float32)
    for volume in use:
        array = np.maximum(volume.array, 0)
        bright = array[array > array.mean()]
        total += np.minimum(array / max(float(np.median(bright)), 1e-6), 2) if bright.size else 0
        seen_by += 1 if volume.seen is None else volume.seen
    shown: NDArray[np.float32] = total / np.maximum(seen_by, 1)
    return shown


def _largest(mask: BoolArray, grid: Grid) -> BoolArray:
    """Opened, filled (the scalp's ring holds the brain even where dark bone parts them), largest component, closed, filled."""
    image = sitk.BinaryMorphologicalOpening(itk.to_image(mask, grid), [2, 2, 0], sitk.sitkBall)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(_filled(image)), sortByObjectSize=True)
    return np.asarray(itk.to_array(_filled(sitk.BinaryMorphologicalClosing(parts == 1, [4, 4, 0], sitk.sitkBall))) > 0)


def _filled(image: sitk.Image) -> sitk.Image:
    """Holes of every axial slice (a hole may be open below, where the field of view ends), then of the whole."""
    array = sitk.GetArrayFromImage(image)
    for k in range(array.shape[0]):
        array[k] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(array[k])))
    filled = sitk.GetImageFromArray(array)
    filled.CopyInformation(image)
    whole: sitk.Image = sitk.BinaryFillhole(filled)
    return whole


def _depth(head: BoolArray, grid: Grid) -> NDArray[np.float32]:
    """(I, J, K) distance to the background in mm, 0 outside; the field of view's edge is no edge of the head."""
    factors = [max(1, int(_COARSE_MM // mm)) for mm in grid.spacing[:2]] + [1]
    coarse = sitk.BinShrink(sitk.Cast(itk.to_image(head, grid), sitk.sitkFloat32), factors) > 0.5
    distance = sitk.SignedMaurerDistanceMap(coarse, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    full = sitk.Resample(distance, itk.to_image(head, grid), sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    return np.where(head, np.maximum(itk.to_array(full), 0), 0).astype(np.float32)


def _has_skull(volumes: Mapping[Modality, Volume], depth: NDArray[np.float32]) -> bool:
    """A whole head has a dark ring of bone under a bright scalp, in every contrast."""
    ring = (depth > _RING_MM[0]) & (depth < _RING_MM[1])
    inner = depth > _RING_MM[1]
    if not ring.any() or not inner.any():
        return False
    shares = [_dark_share(v, ring, inner) for m, v in volumes.items() if not m.is_quantitative] or [0.0]
    return float(np.mean(shares)) > _MIN_DARK_SHARE


def _dark_share(volume: Volume, ring: BoolArray, inner: BoolArray) -> float:
    around, middle = (volume.array[volume.within(part)] for part in (ring, inner))
    return float((around < _DARK * np.median(middle)).mean()) if around.size and middle.size else 0.0


def _deep(depth: NDArray[np.float32], head: BoolArray, grid: Grid, stripped: bool) -> BoolArray:
    """Far from the surface, and not in the neck; the deepest tenth where a small field of view leaves too little."""
    deep = depth > (DEEP_STRIPPED_MM if stripped else DEEP_WHOLE_MM)
    if not stripped:
        used = np.nonzero(head.any((0, 1)))[0]
        lowest = int(used[-1] - HEAD_HEIGHT_MM / grid.spacing[2])
        deep[:, :, : max(0, lowest)] = False
    if deep.sum() < 0.02 * head.sum():
        deep = head & (depth >= np.quantile(depth[head], 0.9))
    return deep
