"""Which acquired volume the others are brought to."""

from __future__ import annotations

from collections.abc import Mapping

from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.geometry import Grid, iso_grid
from medk2n_cli.core.modality import Modality

_FOLLOWERS = (Modality.DWI, Modality.ADC)  # distorted by echo-planar imaging: never a reference of their own choice


def choose_reference(grids: Mapping[Modality, Grid], grid: str = "auto") -> Modality:
    """The modality whose place is kept: the one asked for, else the one with the finest coarsest edge.

    Equal edges: the larger field of view, then slot order. `grid` is ``auto``, ``iso`` or a modality.

    Raises:
        RequestError: `grid` names a modality that the study lacks.
    """
    if grid not in ("auto", "iso"):
        asked = Modality.parse(grid)
        if asked not in grids:
            raise RequestError(
                f"--grid {asked.value}: the study holds no {asked.value}.",
                next_step="Use --grid auto, iso, or one of: " + ", ".join(m.value for m in grids) + ".",
                code="GRID_NOT_ACQUIRED",
            )
        return asked
    anatomical = [m for m in grids if m not in _FOLLOWERS] or list(grids)
    return min(anatomical, key=lambda m: (_coarsest(grids[m]), -_field_of_view(grids[m]), _slot(m)))


def output_grid(reference: Grid, grid: str) -> Grid:
    """Where results are written: the reference's own grid, or 1 mm isotropic around it."""
    return iso_grid(reference) if grid == "iso" else reference


def _coarsest(grid: Grid) -> float:
    return round(max(grid.spacing), 2)


def _field_of_view(grid: Grid) -> float:
    size = [n * mm for n, mm in zip(grid.shape, grid.spacing, strict=True)]
    return round(size[0] * size[1] * size[2] / 1e5)


def _slot(modality: Modality) -> int:
    return list(Modality).index(modality)
