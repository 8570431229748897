"""`medk2n scan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medk2n_cli.cli.asking import Places, parse_use
from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.study import Series, Study
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.scan import scan


def scan_report(places: Places, use: Sequence[str]) -> dict[str, Any]:
    """One entry per series: label, modality, evidence, grid, used or why not; and what stands in the way, if anything.

    Raises:
        StudyError: a path does not exist, or --use names no file.
    """
    with unpacked(places.where) as where:
        found = scan(where, parse_use(use), places.study, places.read_rules(), places.where[0])
    studies = sorted({s.study for s in found.series if s.study})
    return {"series": [_row(s) for s in found.series], "studies": studies, "problem": _problem(found)}


def _row(series: Series) -> dict[str, Any]:
    grid = series.grid
    return {
        "label": series.label,
        "modality": series.modality.value if series.modality else None,
        "evidence": series.evidence or None,
        "shape": list(grid.shape) if grid else None,
        "spacing_mm": [round(s, 3) for s in grid.spacing] if grid else None,
        "plane": grid.plane if grid else None,
        "used": series.unused is None,
        "why_not": series.unused,
        "code": series.code or None,
    }


def _problem(study: Study) -> dict[str, str] | None:
    try:
        study.chosen()
    except StudyError as failure:
        return failure.to_dict()
    return None


def show_scan(data: dict[str, Any]) -> None:
    """One line per series, then what to do if something stands in the way."""
    rows = []
    for s in data["series"]:
        grid = ""
        if s["shape"]:
            grid = (
                "x".join(str(n) for n in s["shape"])
                + " @ "
                + "x".join(f"{mm:g}" for mm in (round(v, 2) for v in s["spacing_mm"]))
            )
        rows.append(
            (s["label"], s["modality"] if s["used"] else "-", grid, s["evidence"] if s["used"] else f"not used: {s['why_not']}")
        )
    out = console()
    out.print(table("", ("series", "is", "grid (voxels @ mm)", "because"), rows))
    if data["problem"]:
        out.print(f"\nproblem: {data['problem']['problem']}\nnext:    {data['problem']['next_step']}", markup=False)
