"""{Modality: Volume} -> AlignedStudy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.aligning.choose import choose_reference
from medk2n_cli.aligning.head import find_head
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
    how = how or Alignment()
    reference = choose_reference(volumes, how.grid)
    fixed = volumes[reference]
    placed: dict[Modality, Registered] = {}
    for modality, volume in volumes.items():
        if modality is reference:
            placed[modality] = Registered(None, Move(0.0, 0.0, "reference"))
            continue
        check_overlap(fixed, volume, (reference, modality))
        placed[modality] = (
            register(fixed, volume, modality) if how.register else Registered(None, Move(0.0, 0.0, "not registered"))
        )
    grid = axial_grid(fixed.grid)
    common = {m: resample(v, grid, placed[m].transform) for m, v in volumes.items()}
    masks = find_head(common, grid)
    moves = {
        m: p.move if m is reference else replace(p.move, note=_covered(volumes[m], placed[m], masks.head, grid, m))
        for m, p in placed.items()
    }
    return AlignedStudy(grid, common, masks.head, masks.deep, masks.stripped, reference, moves)


def _covered(volume: Volume, placed: Registered, head: NDArray[np.bool_], grid: Grid, name: Modality) -> str:
    """A sentence where part of the head lies outside this volume's field of view, else empty.

    Raises:
        StudyError: more than half of it does.
    """
    ones = Volume(np.ones(volume.grid.shape, np.float32), volume.grid)
    share = float((resample(ones, grid, placed.transform).array[head] > 0.5).mean())
    if share < MIN_COVERED:
        raise StudyError(
            f"{name.value} covers only {share:.0%} of the head that the reference shows.",
            next_step=f"Leave it out with --ignore {name.value}, or make it the reference with --grid {name.value}.",
            code="PARTIAL_HEAD",
        )
    if share < WELL_COVERED:
        return f"it covers only {share:.0%} of the head; elsewhere it counts as black, trust the result less there."
    return ""
