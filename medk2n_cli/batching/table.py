"""``batch.csv`` and ``batch.jsonl``: one row per study, as it goes, from whichever thread it comes."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medk2n_cli.core.errors import OutputError
from medk2n_cli.writing.folder import unwritable

COLUMNS = ("number", "study", "status", "code", "targets", "quality", "seconds", "problem")
Row = Mapping[str, object]
HERE = ("done", "unchanged")  # status of a study whose result lies in its folder


@contextmanager
def tables(folder: Path, stem: str, replace: bool = False) -> Iterator[Callable[[Row], None]]:
    """Opens both and gives what writes a row to them.

    Raises:
        OutputError: CANNOT_WRITE; OUT_NOT_EMPTY, an earlier batch's results are there and not to be replaced (`replace`).
    """
    if not replace:
        _refuse_earlier(folder, stem)
    try:
        sheet = (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace")
        lines = (folder / f"{stem}.jsonl").open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        raise unwritable(folder, failure) from failure
    with sheet, lines:
        writer = csv.DictWriter(sheet, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        one_at_a_time = threading.Lock()

        def write(row: Row) -> None:
            try:
                with one_at_a_time:
                    writer.writerow(row)
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    for stream in (sheet, lines):
                        stream.flush()
            except OSError as failure:
                raise unwritable(folder, failure) from failure

        yield write


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
