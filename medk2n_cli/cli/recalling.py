"""`medk2n ledger`: what was made, by which weights, and where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medk2n_cli.cli.tables import console
from medk2n_cli.writing import ledger


def recall(file: Path, weights: str) -> dict[str, Any]:
    """Entries of a ledger, oldest first.

    Raises:
        RequestError: LEDGER_NOT_FOUND.
    """
    entries, broken = ledger.read(file, weights)
    return {"ledger": str(file), "weights": weights, "entries": entries, "broken_lines": broken}


def show_recall(data: dict[str, Any]) -> None:
    """One line per object; UIDs in full and unbroken, since they are what a PACS is asked for."""
    screen = console()
    for e in data["entries"]:
        where = e["series_uid"] or f"{e['result']}/{e['file']}"
        screen.print(f"{e['time']}  {e['modality']:<5}  {e['weights']['sha256'][:12]}  {where}", markup=False, soft_wrap=True)
    screen.print(f"{len(data['entries'])} synthetic objects", markup=False)
    if data["broken_lines"]:
        screen.print(f"warning: {data['broken_lines']} lines are damaged and not listed", markup=False)
