"""{Modality: Volume} -> AlignedStudy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medk2n_cli.aligning.choose import choose_reference
from medk2n_cli.aligning.head import find_head
from medk2n_cli.aligning.register import Registered, check_overlap, register
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.geometry import axial_grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import AlignedStudy, Move, Volume


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
    moves = {m: p.move for m, p in placed.items()}
    return AlignedStudy(grid, common, masks.head, masks.deep, masks.stripped, reference, moves)
