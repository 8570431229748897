"""Data -> tables for people, at most 80 columns off a terminal; no colours off a TTY or with NO_COLOR (rich's own rule)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


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
