"""Two images of one head side by side: two results (an upgrade of weights), or a result and a real volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.aligning.head import HeadMasks, find_head
from medk2n_cli.aligning.lift import lifted
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.errors import RequestError, StudyError
from medk2n_cli.core.geometry import axial_grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import Volume
from medk2n_cli.packing.likeness import Scores, protocol_h, protocol_w
from medk2n_cli.packing.normalise import from_units
from medk2n_cli.packing.pack import normalised
from medk2n_cli.reading import dicom, nifti
from medk2n_cli.reading.dicom_geometry import Unusable
from medk2n_cli.reading.dicom_headers import read_slices
from medk2n_cli.reading.scan import load, scan

MIN_OVERLAP = 0.5
# A refusal for what an image is called does not keep it from being compared; one for what it is does.
_COMPARABLE = ("", "SYNTHETIC", "UNKNOWN_CONTRAST", "CONTRADICTION", "NOT_A_CONTRAST")


@dataclass(frozen=True, eq=False)
class Picture:
    """One side: the volume, whether it is synthetic (then its scale is ours), and what to call it."""

    volume: Volume
    synthetic: bool
    name: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """B against A of one modality, inside the head.

    Attributes:
        same_grid: both lie voxel on voxel; else B was resampled onto A by the headers.
        as_is, windowed: protocols H and W with A as the truth.
        mean, largest: absolute difference, output units.
        views: A as the acquired image, B as the target, their difference as the error.
    """

    modality: Modality
    a: Picture
    b: Picture
    same_grid: bool
    as_is: Scores
    windowed: Scores
    mean: float
    largest: float
    views: Views

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "modality": self.modality.value,
            "a": {"what": self.a.name, "synthetic": self.a.synthetic},
            "b": {"what": self.b.name, "synthetic": self.b.synthetic},
            "same_grid": self.same_grid,
            "as_is": self.as_is.to_dict(),
            "windowed": self.windowed.to_dict(),
            "mean_difference": round(self.mean, 2),
            "largest_difference": round(self.largest, 2),
            "units": self.modality.units,
        }


def compare(a: Path, b: Path, modality: Modality | None = None) -> list[Comparison]:
    """Every modality that both sides show; `modality` says what an image is whose name does not.

    Raises:
        RequestError: NOTHING_IN_COMMON.
        StudyError: an image cannot be read, or the two do not show the same place.
    """
    left, right = pictures(a, modality), pictures(b, modality)
    both = [m for m in Modality if m in left and m in right]
    if not both:
        raise RequestError(
            f"Nothing to compare: {a} shows {_names(left)}, {b} shows {_names(right)}.",
            next_step="Give two results with a target in common, or say what an image is with --modality FLAIR.",
            code="NOTHING_IN_COMMON",
        )
    return [_compared(m, left[m], right[m]) for m in both]


def pictures(where: Path, modality: Modality | None = None) -> dict[Modality, Picture]:
    """A result folder's targets, or the acquired series of a folder, or one file.

    Raises:
        StudyError: nothing readable.
    """
    if (where / "result.json").is_file():
        found = _result(where)
        return {m: p for m, p in found.items() if modality in (None, m)}
    if where.is_file() and nifti.is_nifti(where):
        one = nifti.read_series(where, where.name)
        known = modality or one.modality or _of_synthetic(where)
        if known is None:
            raise StudyError(
                f"{where.name} does not say which contrast it is.",
                next_step="Say it with --modality FLAIR.",
                code="UNKNOWN_CONTRAST",
            )
        if one.code not in _COMPARABLE:
            raise one.unreadable(one.code, one.unused or "it cannot be used")
        volume = nifti.load_volume(Series(where.name, (where,), None))
        return {known: Picture(volume, one.code == "SYNTHETIC", where.name)}
    chosen = {m: s for m, s in scan([where]).chosen().items() if modality in (None, m)}
    return {m: Picture(v, False, f"acquired {chosen[m].shown}") for m, v in load(chosen).items()}


def _result(folder: Path) -> dict[Modality, Picture]:
    found = {}
    for file in sorted(folder.glob("synth_*.nii.gz")):
        known = _of_synthetic(file)
        if known is not None:
            found[known] = Picture(nifti.load_volume(Series(file.name, (file,), None)), True, file.name)
    for place in sorted((folder / "dicom").glob("synth_*")):
        known = _of_synthetic(place)
        if place.is_dir() and known is not None and known not in found:
            found[known] = Picture(_series(place), True, place.name)
    return found


def _series(place: Path) -> Volume:
    try:
        return dicom.load_slices(place.name, [s for f in sorted(place.iterdir()) for s in read_slices(f)])
    except (Unusable, OSError, ValueError) as failure:
        raise StudyError(
            f"The series {place.name} cannot be read as a volume: {failure}.",
            next_step="See what is wrong with: medk2n verify, on the folder of the result.",
            code="UNREADABLE_RESULT",
        ) from failure


def _of_synthetic(file: Path) -> Modality | None:
    return Modality.spelled(nifti.stem(file).removeprefix("synth_"))


def _names(found: Mapping[Modality, Picture]) -> str:
    return ", ".join(m.value for m in found) or "nothing"


def _compared(modality: Modality, a: Picture, b: Picture) -> Comparison:
    frames = {p.volume.grid.frame for p in (a, b)} - {None}
    if len(frames) > 1 or a.volume.grid.overlap(b.volume.grid) < MIN_OVERLAP:
        raise _elsewhere(a, b)
    same, grid = a.volume.grid.same_place(b.volume.grid), axial_grid(a.volume.grid)
    x, y = (resample(lifted(modality, p.volume)[0], grid) for p in (a, b))
    masks = find_head({modality: x}, grid)
    shared = x.within(y.within(masks.head))
    if not shared.any():
        raise _elsewhere(a, b)
    first, second = (_scaled(modality, p.synthetic, v, replace(masks, head=shared)) for p, v in ((a, x), (b, y)))
    made, truth = (np.ascontiguousarray(v.transpose(2, 1, 0), np.float32) for v in (second, first))
    head = np.ascontiguousarray(shared.transpose(2, 1, 0))
    difference = np.abs(first - second)
    units = from_units(modality, np.ones(1, np.float32))[0]
    views = Views(
        grid,
        shared,
        {},
        {modality: second.astype(np.float16)},
        {modality: difference.astype(np.float16)},
        {modality: first.astype(np.float16)},
    )
    return Comparison(
        modality,
        a,
        b,
        same,
        protocol_h(made, truth, head),
        protocol_w(made, truth, head),
        float(difference[shared].mean() / units),
        float(difference[shared].max() / units),
        views,
    )


def _elsewhere(a: Picture, b: Picture) -> StudyError:
    return StudyError(
        f"{a.name} and {b.name} do not show the same place.",
        next_step="Compare images of one patient in one frame of reference; resample one onto the other first.",
        code="NO_OVERLAP",
    )


def _scaled(modality: Modality, synthetic: bool, volume: Volume, masks: HeadMasks) -> NDArray[np.float32]:
    """On the network's scale: ours has one, an acquired image gets the tool's normalisation."""
    if synthetic:
        return from_units(modality, volume.array) * masks.head
    return normalised(modality, volume, masks.deep, masks.head)
