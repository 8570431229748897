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
        Unusable: NO_POSITION, TOO_FEW_SLICES, MISSING_PIXELS, TOO_LARGE, BAD_SPACING, DUPLICATE_SLICES, SLICE_GAP or GANTRY_TILT.
    """
    if any(s.position is None for s in slices):
        raise Unusable("NO_POSITION", "its slices do not say where they are in the patient")
    if len(slices) < MIN_SLICES:
        raise Unusable("TOO_FEW_SLICES", f"only {len(slices)} of its slices belong together; a volume needs {MIN_SLICES}")
    if not min(slices[0].shape):
        raise Unusable("MISSING_PIXELS", "its headers do not say how many rows and columns it has")
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
    sideways = float(np.linalg.norm(step - normal * (step @ normal)))
    if sideways > _TILT * spacing:
        degrees = np.degrees(np.arctan2(sideways, spacing))
        raise Unusable("GANTRY_TILT", f"its slices are stacked askew by {degrees:.1f} degrees, so they form no rectangular grid")
    return Stack(tuple(ordered), _grid(ordered, step))


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


def _grid(ordered: Sequence[Slice], step: NDArray[np.float64]) -> Grid:
    first = ordered[0]
    assert first.position is not None
    assert first.along_row is not None
    assert first.along_column is not None
    assert first.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing[1]  # the column index grows along the row
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    rows, columns = first.shape
    spacing = np.array([first.spacing[1], first.spacing[0], np.linalg.norm(step)])
    if (problem := grid_problem((columns, rows, len(ordered)), spacing)) is not None:
        raise Unusable(*problem)
    return Grid((columns, rows, len(ordered)), affine, first.text("FrameOfReferenceUID") or None)
