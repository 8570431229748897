"""Slices of one series -> a grid in the patient, or a coded refusal. Spacing comes from the positions, never from a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.geometry import Grid
from medk2n_cli.reading.dicom_headers import Slice
from medk2n_cli.reading.limits import grid_problem

MIN_SLICES = 3
_SAME_MM = 0.01  # two slices this near are the same place
_UNEVEN = 0.05  # share of the spacing by which a step may differ
_TILT = 0.01  # share of the step that may lie within the slice plane
_SQUARE = 0.001  # up to this share it is rounding; what is more, no NIfTI file can hold
_OFF_MM = 0.5  # how far a slice may move for the stack to be squared up
_UNLIKE = 0.01  # share by which the pixels of one series may differ in size


class Unusable(Exception):
    """A series that makes no volume: `code` for scripts, the message for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along the normal, their grid, and what should be said about them."""

    slices: tuple[Slice, ...]
    grid: Grid
    notes: tuple[str, ...] = ()


def stack(slices: Sequence[Slice]) -> Stack:
    """Slices of one orientation and size, each place once -> Stack; voxels are [column, row, slice].

    Raises:
        Unusable: NO_POSITION, TOO_FEW_SLICES, MISSING_PIXELS, INVERTED_GREYS, MIXED_SPACING, TOO_LARGE, BAD_SPACING,
            DUPLICATE_SLICES, SLICE_GAP or GANTRY_TILT.
    """
    if any(s.position is None for s in slices):
        raise Unusable("NO_POSITION", "its slices do not say where they are in the patient")
    if len(slices) < MIN_SLICES:
        raise Unusable("TOO_FEW_SLICES", f"only {len(slices)} of its slices belong together; a volume needs {MIN_SLICES}")
    if not min(slices[0].shape):
        raise Unusable("MISSING_PIXELS", "its headers do not say how many rows and columns it has")
    _check_alike(slices)
    normal = _normal(slices[0])
    places = np.array([_place(s, normal) for s in slices])
    order = np.argsort(places, kind="stable")
    ordered, places = [slices[n] for n in order], places[order]
    steps = np.diff(places)
    if (steps < _SAME_MM).any():
        twice = int((steps < _SAME_MM).sum())
        raise Unusable("DUPLICATE_SLICES", f"{twice} of its {len(slices)} slices lie where another one lies")
    _check_even(steps)
    step = _step(ordered)
    spacing = float(np.median(steps))
    straight = normal * (step @ normal)
    sideways = float(np.linalg.norm(step - straight))
    off, degrees = sideways * (len(ordered) - 1) / 2, np.degrees(np.arctan2(sideways, spacing))
    if sideways > _TILT * spacing or (sideways > _SQUARE * spacing and off > _OFF_MM):
        raise Unusable("GANTRY_TILT", f"its slices are stacked askew by {degrees:.1f} degrees, so they form no rectangular grid")
    notes = _notes(ordered)
    if sideways <= _SQUARE * spacing:
        return Stack(tuple(ordered), _grid(ordered, step), notes)
    notes += (f"its slices are stacked askew by {degrees:.1f} degrees; squared up, they are {off:.1f} mm off at its ends",)
    return Stack(tuple(ordered), _grid(ordered, straight, (step - straight) * (len(ordered) - 1) / 2), notes)


def _check_alike(slices: Sequence[Slice]) -> None:
    """Whether all slices mean the same by their numbers and have pixels of one size."""
    if any(s.text("PhotometricInterpretation") == "MONOCHROME1" for s in slices):  # PS3.3 C.7.6.3.1.2
        raise Unusable("INVERTED_GREYS", "its greys are inverted (MONOCHROME1), as those of no MR image are: it was processed")
    sizes = np.array([s.spacing for s in slices])
    if (np.ptp(sizes, axis=0) > _UNLIKE * sizes.min(axis=0)).any():
        raise Unusable("MIXED_SPACING", f"its pixels measure {sizes.min():.2f} mm in one slice, {sizes.max():.2f} mm in another")


def _notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    frames = len({s.text("FrameOfReferenceUID") for s in slices})
    return (f"its slices name {frames} frames of reference; their positions were believed",) if frames > 1 else ()


def _normal(one: Slice) -> NDArray[np.float64]:
    assert one.along_row is not None
    assert one.along_column is not None
    return np.cross(one.along_row, one.along_column)


def _place(one: Slice, normal: NDArray[np.float64]) -> float:
    assert one.position is not None
    return float(one.position @ normal)


def _check_even(steps: NDArray[np.float64]) -> None:
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > max(_UNEVEN * usual, _SAME_MM))
    if len(uneven):
        first = int(uneven[0])
        raise Unusable(
            "SLICE_GAP",
            f"between its slices {first + 1} and {first + 2} there are {steps[first]:.2f} mm, elsewhere {usual:.2f} mm: "
            "slices are missing or unevenly spaced",
        )


def _step(ordered: Sequence[Slice]) -> NDArray[np.float64]:
    """Mean vector from one slice to the next."""
    first, last = ordered[0].position, ordered[-1].position
    assert first is not None
    assert last is not None
    return np.asarray((last - first) / (len(ordered) - 1))


def _grid(ordered: Sequence[Slice], step: NDArray[np.float64], shift: NDArray[np.float64] | float = 0.0) -> Grid:
    first = ordered[0]
    assert first.position is not None
    assert first.along_row is not None
    assert first.along_column is not None
    assert first.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing[1]  # the column index grows along the row
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position + shift
    rows, columns = first.shape
    spacing = np.array([first.spacing[1], first.spacing[0], np.linalg.norm(step)])
    if (problem := grid_problem((columns, rows, len(ordered)), spacing)) is not None:
        raise Unusable(*problem)
    frames = {s.text("FrameOfReferenceUID") for s in ordered}
    return Grid((columns, rows, len(ordered)), affine, (frames.pop() or None) if len(frames) == 1 else None)
