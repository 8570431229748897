"""`medk2n audit`: one study with a page, or many with one CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medk2n_cli.checking.audit import Audit, audit
from medk2n_cli.cli.synthesising import Machine
from medk2n_cli.core.errors import Medk2nError, OutputError
from medk2n_cli.pipeline import Request, open_weights
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.writing.folder import open_folder, unwritable
from medk2n_cli.writing.page import Page, write_page
from medk2n_cli.writing.report import write_json
from medk2n_cli.writing.result import commit_with_manifest

_SCHEMA = "medk2n.audit/1"


def audit_studies(request: Request, out: Path, machine: Machine, overwrite: bool) -> tuple[dict[str, Any], list[Medk2nError]]:
    """Every place of the request is a study of its own; they are numbered, since folder names carry patients' names.

    Raises:
        Medk2nError: of the only study; of several, OutputError SOME_FAILED after the others were done.
    """
    session = open_weights(machine.weights, machine.device, machine.threads)
    rows, failures, told = [], [], []
    with open_folder(out, overwrite, "audit") as folder:
        for number, place in enumerate(request.where, start=1):
            try:
                with unpacked((place,)) as where:
                    done = audit(replace(request, where=where, shown=place), session)
            except Medk2nError as failure:
                if len(request.where) == 1:
                    raise
                failures.append({"study": number, "code": failure.code})  # its words may name a folder, and that a patient
                told.append(failure)
                continue
            rows += [{"study": number, **r.to_dict()} for r in done.rows]
            with _written(out):
                write_page(folder.staging / f"audit_{number:03d}.html", _page(done, number, len(request.where)))
        if not rows:  # what an earlier audit found stays
            raise _some_failed(failures, told)
        data = {"schema": _SCHEMA, "synthetic": True, "weights": session.weights.card.sha256, "rows": rows, "failures": failures}
        with _written(out):
            _write_csv(folder.staging / "audit.csv", rows)
            write_json(folder.staging / "audit.json", data)
        commit_with_manifest(folder, {"kind": "audit", "status": "done", "weights": session.weights.card.sha256})
    return {"out": str(out), **data}, told


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise unwritable(out, failure) from failure


def fail_on_some(data: dict[str, Any], told: Sequence[Medk2nError]) -> None:
    """Of several studies, those that failed are an error once the others are written.

    Raises:
        OutputError: SOME_FAILED.
    """
    if told:
        raise _some_failed(data["failures"], told, f"The others are in {data['out']}. ")


def _some_failed(failures: Sequence[Mapping[str, object]], told: Sequence[Medk2nError], others: str = "") -> OutputError:
    return OutputError(
        f"{len(told)} studies could not be audited; the first, number {failures[0]['study']}: {told[0].problem}",
        next_step=others + told[0].next_step,
        code="SOME_FAILED",
    )


def _page(done: Audit, number: int, count: int) -> Page:
    unused = tuple(s for s in done.study.series if s.unused)
    heading = "Audit: acquired contrasts synthesised from each other" + (f", study {number}" if count > 1 else "")
    weights = f"{done.report.model.name} {done.report.model.version} {done.report.model.sha256}"
    return Page(done.report, done.views, unused, (("weights", weights),), tuple(r.to_dict() for r in done.rows), heading, True)


def _write_csv(file: Path, rows: Sequence[dict[str, object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        if rows:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({k: "+".join(v) if isinstance(v, list) else v for k, v in row.items()})
