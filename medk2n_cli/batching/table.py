"""``batch.csv`` and ``batch.jsonl``: one row per study, as it goes, from whichever thread it comes."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from medk2n_cli.core.errors import OutputError
from medk2n_cli.writing.folder import unwritable

COLUMNS = ("number", "study", "status", "code", "targets", "quality", "seconds", "problem")
Row = Mapping[str, object]
HERE = ("done", "unchanged")  # status of a study whose result lies in its folder


class Tables:
    """Both tables, open; rows of studies that this run has not told (yet) stay as an earlier one told them.

    As it goes an earlier row stands above the new one of the same study; at the end it is gone.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder, self.stem = folder, stem
        self.rows = _earlier(folder / f"{stem}.jsonl")
        self.one_at_a_time = threading.Lock()
        self._rewrite()

    def write(self, row: Row) -> None:
        """One row more, from whichever thread.

        Raises:
            OutputError: CANNOT_WRITE.
        """
        with self.one_at_a_time, _explained(self.folder):
            self.rows.pop(str(row["study"]), None)
            self.rows[str(row["study"])] = row
            self._put("a", [row])

    def close(self) -> None:
        """Every study once.

        Raises:
            OutputError: CANNOT_WRITE.
        """
        self._rewrite()

    def _rewrite(self) -> None:
        with _explained(self.folder):
            self._put("w", list(self.rows.values()), ".part")
            for kind in ("csv", "jsonl"):
                os.replace(self.folder / f"{self.stem}.{kind}.part", self.folder / f"{self.stem}.{kind}")

    def _put(self, mode: str, rows: Sequence[Row], suffix: str = "") -> None:
        sheet, lines = (self.folder / f"{self.stem}.{kind}{suffix}" for kind in ("csv", "jsonl"))
        with sheet.open(mode, newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore")
            if mode == "w":
                writer.writeheader()
            writer.writerows(rows)
        with lines.open(mode, encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextmanager
def tables(folder: Path, stem: str, replace: bool = False) -> Iterator[Callable[[Row], None]]:
    """Opens both and gives what writes a row to them.

    Raises:
        OutputError: CANNOT_WRITE; OUT_NOT_EMPTY, an earlier batch's results are there and not to be replaced (`replace`).
    """
    if not replace:
        _refuse_earlier(folder, stem)
        with _explained(folder):
            (folder / f"{stem}.jsonl").unlink(missing_ok=True)  # of a batch of which nothing was done
    both = Tables(folder, stem)
    yield both.write
    both.close()


def _earlier(lines: Path) -> dict[str, Row]:
    """The last row of each study; a line that a killed run left half-written is none."""
    rows: dict[str, Row] = {}
    with suppress(OSError):
        for line in lines.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError, KeyError):
                row = json.loads(line)
                name = str(row["study"])
                rows.pop(name, None)
                rows[name] = row
    return rows


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise unwritable(folder, failure) from failure


def _refuse_earlier(folder: Path, stem: str) -> None:
    """An earlier batch's table is not replaced by one that says of each of its results that it is in the way.

    Raises:
        OutputError: OUT_NOT_EMPTY.
    """
    try:
        with (folder / f"{stem}.csv").open(newline="", encoding="utf-8", errors="replace") as sheet:
            done = sum(row.get("status") in HERE for row in csv.DictReader(sheet))
    except (OSError, csv.Error):
        return
    if done:
        raise OutputError(
            f"{folder} holds {done} results of an earlier batch.",
            next_step="Go on with it by --resume, replace its results by --overwrite, or give another --out.",
            code="OUT_NOT_EMPTY",
        )
