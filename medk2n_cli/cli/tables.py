"""Data -> tables for people, at most 80 columns off a terminal; no colours off a TTY or with NO_COLOR (rich's own rule)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_AUDIT_COLUMNS = ("contrast", "from", "R2", "R2 windowed", "PSNR dB", "SSIM", "predicted", "error", "expected")


def console(stderr: bool = False) -> Console:
    """A console that never wraps a file name in the middle."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False, emoji=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> Table:
    """Plain table; columns numbered in `right` are right-aligned. Cells are text, never markup."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def audit_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per contrast, at most 80 columns."""
    lines = [
        (
            f"{r['study']}: {r['target']}" if "study" in r else r["target"],
            "+".join(r["sources"]),
            f"{r['r2']:.2f}",
            f"{r['r2_windowed']:.2f}",
            f"{r['psnr']:.1f}",
            f"{r['ssim']:.2f}",
            f"{r['predicted_ssim']:.2f}",
            f"{r['error']:.0f}",
            f"{r['expected_error']:.0f}",
        )
        for r in rows
    ]
    console().print(table("AUDIT ON THE PATIENT'S OWN DATA", _AUDIT_COLUMNS, lines, right=range(2, 9)))
    console().print(
        "A proxy for how the weights do on this scanner and patient, not the error of a missing contrast.", markup=False
    )
