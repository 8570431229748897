"""Label maps as the simulator wants them: tissue classes in LPS order with distances to the brain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medk2n_cli.core.volumes import DEEP_STRIPPED_MM, DEEP_WHOLE_MM, HEAD_HEIGHT_MM
from medk2n_cli.training.refusal import Refusal
from medk2n_cli.training.replacing import replacing
from medk2n_cli.training.simulate.tissue import CLASS, SOLID_BRAIN, WHITE, label_to_class

FAR_MM = 30
_BRAIN_HEIGHT_MM = 140
_CLOSING_MM = 8
_SAMPLES, _PLACES = 6000, 20000
_PERIVENTRICULAR_MM = 8


@dataclass(frozen=True, eq=False)
class Head:
    """One label map, 1 mm isotropic, axes to L, P, S, cropped to the head.

    Attributes:
        name: file name without extension.
        classes: (I, J, K) uint8 tissue class.
        to_brain: (I, J, K) uint8 distance to the brain (sulci filled), mm, clipped at `FAR_MM`; 0 inside.
        white: (n, 3) int16 indices of white matter: places where lesions start.
        periventricular: (n, 3) int16 indices of white matter within 8 mm of a ventricle, where most MS lesions start.
        deep_whole, deep_stripped: (n, 27) uint8 classes of 3x3x3 neighbourhoods in the deep head, from which
            the normalisation of a study is estimated without rendering all of it.
        brain_box: ((i0, j0, k0), (i1, j1, k1)) bounds of the solid brain, without the cord below it.
    """

    name: str
    classes: NDArray[np.uint8]
    to_brain: NDArray[np.uint8]
    white: NDArray[np.int16]
    periventricular: NDArray[np.int16]
    deep_whole: NDArray[np.uint8]
    deep_stripped: NDArray[np.uint8]
    brain_box: tuple[tuple[int, int, int], tuple[int, int, int]]


def load_heads(folder: Path, cache: Path | None = None, names: list[str] | None = None) -> list[Head]:
    """All ``head_*.nii.gz`` of `folder`, prepared; `cache` keeps the prepared arrays between runs.

    A folder of prepared heads (``head_*.npz``) will do as well.

    Raises:
        Refusal: the folder holds no label map.
    """
    found = sorted(folder.glob("head_*.nii.gz")) or sorted(folder.glob("head_*.npz"))
    files = [f for f in found if names is None or f.name.split(".")[0] in names]
    if not files:
        raise Refusal(f"no head_*.nii.gz in {folder}: see --label-maps")
    return [_cached(file, cache) for file in files]


def _cached(file: Path, cache: Path | None) -> Head:
    name = file.name.split(".")[0]
    stored = file if file.suffix == ".npz" else cache / f"{name}.npz" if cache else None
    if stored and stored.exists():
        z = np.load(stored)
        box = z["brain_box"]
        return Head(
            name,
            z["classes"],
            z["to_brain"],
            z["white"],
            z["periventricular"],
            z["deep_whole"],
            z["deep_stripped"],
            (tuple(box[0].tolist()), tuple(box[1].tolist())),
        )
    from medk2n_cli import itk  # here: a machine that trains on prepared heads need not have SimpleITK

    head = prepare(name, itk.to_lps_array(file))
    if stored:
        store_head(head, stored)
    return head


def store_head(head: Head, file: Path, write: Callable[..., None] = np.savez) -> None:
    """Keep a prepared head where `load_heads` looks for it: ``NAME.npz`` in the cache."""
    with replacing(file) as stream:
        write(
            stream,
            classes=head.classes,
            to_brain=head.to_brain,
            white=head.white,
            periventricular=head.periventricular,
            deep_whole=head.deep_whole,
            deep_stripped=head.deep_stripped,
            brain_box=np.array(head.brain_box),
        )


def prepare(name: str, labels: NDArray[np.float32]) -> Head:
    """(I, J, K) label numbers in LPS order, 1 mm -> Head."""
    table = np.full(1024, CLASS["muscle"], np.uint8)
    for label, number in label_to_class().items():
        table[label] = number
    classes = table[labels.astype(np.int64)]
    classes = classes[tuple(slice(w.min(), w.max() + 1) for w in np.nonzero(classes))]
    solid = np.isin(classes, SOLID_BRAIN)
    closed = _closed(solid)
    to_brain = np.minimum(ndimage.distance_transform_edt(~closed), FAR_MM).astype(np.uint8)
    white = np.isin(classes, WHITE)
    beside = ndimage.distance_transform_edt(classes != CLASS["ventricular CSF"]) <= _PERIVENTRICULAR_MM
    rng = np.random.default_rng(0)
    inside = np.argwhere(solid)
    low, high = inside.min(0).tolist(), (inside.max(0) + 1).tolist()
    low[2] = max(low[2], high[2] - _BRAIN_HEIGHT_MM)
    whole = _deep(classes > 0, DEEP_WHOLE_MM)
    whole[:, :, : max(0, high[2] + 15 - int(HEAD_HEIGHT_MM))] = False
    return Head(
        name,
        classes,
        to_brain,
        _some(white, rng),
        _some(white & beside, rng),
        _neighbourhoods(classes, whole, rng),
        _neighbourhoods(classes, _deep(closed, DEEP_STRIPPED_MM), rng),
        ((low[0], low[1], low[2]), (high[0], high[1], high[2])),
    )


def _some(where: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int16]:
    indices = np.argwhere(where).astype(np.int16)
    return indices[rng.choice(len(indices), _PLACES)]


def _closed(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The brain with its sulci filled, as brain extraction leaves it."""
    padded = np.pad(solid, _CLOSING_MM + 2)
    grown = ndimage.distance_transform_edt(~padded) <= _CLOSING_MM
    shrunk = ndimage.distance_transform_edt(grown) > _CLOSING_MM
    inner = slice(_CLOSING_MM + 2, -_CLOSING_MM - 2)
    return np.asarray(ndimage.binary_fill_holes(shrunk[inner, inner, inner] | solid))


def _deep(mask: NDArray[np.bool_], depth_mm: float) -> NDArray[np.bool_]:
    """Mask filled, then eroded by `depth_mm`; the lower edge of the volume is no edge of the head."""
    padded = np.pad(ndimage.binary_fill_holes(mask), ((1, 1), (1, 1), (0, 1)))
    padded = np.pad(padded, ((0, 0), (0, 0), (40, 0)), mode="edge")
    return np.asarray(ndimage.distance_transform_edt(padded)[1:-1, 1:-1, 40:-1] > depth_mm)


def _neighbourhoods(classes: NDArray[np.uint8], where: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    inner = np.zeros_like(where)
    inner[1:-1, 1:-1, 1:-1] = where[1:-1, 1:-1, 1:-1]
    points = np.argwhere(inner)
    points = points[rng.choice(len(points), _SAMPLES)]
    offsets = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(1, 27, 3)
    i, j, k = np.moveaxis(points[:, None] + offsets, -1, 0)
    return np.asarray(classes[i, j, k], dtype=np.uint8)
