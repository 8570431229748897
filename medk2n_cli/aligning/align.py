"""{Modality: Volume} -> AlignedStudy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.aligning.choose import choose_reference
from medk2n_cli.aligning.head import find_head
from medk2n_cli.aligning.lift import lifted
from medk2n_cli.aligning.register import Registered, check_overlap, register
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid, axial_grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import AlignedStudy, Move, Volume

MIN_COVERED, WELL_COVERED = 0.5, 0.9  # shares of the reference's head


@dataclass(frozen=True)
class Alignment:
    """How to align: `grid` as in `choose_reference`; `register` False trusts the files' own geometry."""

    grid: str = "auto"
    register: bool = True


def align(volumes: Mapping[Modality, Volume], how: Alignment | None = None) -> AlignedStudy:
    """Every volume on one axial grid, 1 mm in plane, the reference's own slices.

    Raises:
        RequestError: `how.grid` names a modality the study lacks.
        StudyError: fields of view do not overlap, registration fails, or no head is found.
    """
    return align_each({m: v.grid for m, v in volumes.items()}, volumes.__getitem__, how)


def align_each(grids: Mapping[Modality, Grid], fetch: Callable[[Modality], Volume], how: Alignment | None = None) -> AlignedStudy:
    """The same for volumes that are fetched one after the other, once each, so that two at most are in memory.

    Raises:
        RequestError, StudyError: as `align`, and what `fetch` raises.
    """
    how = how or Alignment()
    reference = choose_reference(grids, how.grid)
    grid, (fixed, said) = axial_grid(grids[reference]), lifted(reference, fetch(reference))
    common, placed = {reference: resample(fixed, grid)}, {reference: Registered(None, Move(0.0, 0.0, "reference", said))}
    for modality in grids:
        if modality is not reference:
            moving, said = lifted(modality, fetch(modality))
            placed[modality] = _noted(_placed(fixed, moving, (reference, modality), how), said)
            common[modality] = resample(moving, grid, placed[modality].transform)
            del moving
    del fixed
    common = {m: common[m] for m in grids}
    masks = find_head(common, grid)
    moves = {m: _noted(placed[m], _covered(common[m], masks.head, m)).move for m in grids}
    return AlignedStudy(grid, common, masks.head, masks.deep, masks.stripped, reference, moves)


def _placed(fixed: Volume, moving: Volume, names: tuple[Modality, Modality], how: Alignment) -> Registered:
    check_overlap(fixed, moving, names)
    if how.register:
        return register(fixed, moving, names[1])
    frames = {v.grid.frame for v in (fixed, moving)} - {None}
    note = "it has another frame of reference and was not registered, so it may lie elsewhere." if len(frames) > 1 else ""
    return Registered(None, Move(0.0, 0.0, "not registered", note))


def _noted(placed: Registered, note: str) -> Registered:
    return replace(placed, move=replace(placed.move, note=" ".join(filter(None, (placed.move.note, note)))))


def _covered(volume: Volume, head: NDArray[np.bool_], name: Modality) -> str:
    """A sentence where part of the head lies outside this volume's field of view, else empty.

    Raises:
        StudyError: more than half of it does.
    """
    share = volume.within(head).sum() / head.sum()
    if share < MIN_COVERED:
        raise StudyError(
            f"{name.value} covers only {share:.0%} of the head that the reference shows.",
            next_step=f"Leave it out with --ignore {name.value}, or make it the reference with --grid {name.value}.",
            code="PARTIAL_HEAD",
        )
    if share < WELL_COVERED:
        return f"it covers only {share:.0%} of the head; elsewhere it counts as black, trust the result less there."
    return ""
