"""``batch.csv`` and ``batch.jsonl``: one row per study, as it goes, from whichever thread it comes."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from medk2n_cli.writing.folder import unwritable

COLUMNS = ("number", "study", "status", "code", "targets", "quality", "seconds", "problem")
Row = Mapping[str, object]


@contextmanager
def tables(folder: Path, stem: str) -> Iterator[Callable[[Row], None]]:
    """Opens both and gives what writes a row to them.

    Raises:
        OutputError: CANNOT_WRITE.
    """
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
