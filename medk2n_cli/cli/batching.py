"""`medk2n batch`: many studies through the same line, the weights loaded once, one row each as it goes."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from medk2n_cli.cli.synthesising import Machine, Output, Talk, output_facts, request_options, synthesise_into
from medk2n_cli.cli.tables import console
from medk2n_cli.core.errors import Medk2nError, OutputError, RequestError
from medk2n_cli.model.session import Session
from medk2n_cli.pipeline import Request, open_weights
from medk2n_cli.reading.scan import scan
from medk2n_cli.reading.studies import FoundStudy, find_studies, same_inputs
from medk2n_cli.writing.folder import MANIFEST

SOME_FAILED = 8
COLUMNS = ("number", "study", "status", "code", "targets", "quality", "seconds", "problem")
_LOCK = ".medk2n-batch.lock"


@dataclass(frozen=True)
class Slice:
    """Which studies of the export this run takes: at most `limit` (0: all) of part `part` of `parts`."""

    part: int = 1
    parts: int = 1
    limit: int = 0

    @classmethod
    def parse(cls, text: str, limit: int) -> Slice:
        """``2/8`` -> the second of eight parts; empty is everything.

        Raises:
            RequestError: BAD_PART.
        """
        part, _, parts = (text or "1/1").partition("/")
        if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            raise RequestError(f"--part {text} is no part.", next_step="Write --part 2/8: the second of eight.", code="BAD_PART")
        return cls(int(part), int(parts), limit)

    def of(self, studies: Sequence[FoundStudy]) -> list[tuple[int, FoundStudy]]:
        """(number in the export, study), every `parts`-th one."""
        mine = [(n, s) for n, s in enumerate(studies, start=1) if n % self.parts == self.part % self.parts]
        return mine[: self.limit] if self.limit else mine


def run_batch(
    root: Path, request: Request, output: Output, machine: Machine, which: Slice, resume: bool, dry: bool
) -> dict[str, Any]:
    """Every study of `root` into a folder of its own below `output.folder`; `request.where` is replaced for each.

    Raises:
        StudyError: the export does not exist. OutputError: another batch writes there, or the tables cannot be written.
    """
    studies = which.of(find_studies(root))
    if dry:
        return {"out": str(output.folder), "rows": [{"number": n, "study": s.name, "status": "found"} for n, s in studies]}
    with _locked(output.folder):
        session = open_weights(machine.weights, machine.device, machine.threads)
        with _tables(output.folder, which) as write, _terminable():
            rows = []
            for number, study in studies:
                row = {"number": number, "study": study.name, **_one(study, request, output, session, resume)}
                rows.append(row)
                write(row)
    return {"out": str(output.folder), "rows": rows}


def _one(study: FoundStudy, request: Request, output: Output, session: Session, resume: bool) -> dict[str, Any]:
    """One study's row; its failure touches no other."""
    mine = replace(request, where=study.where, study=study.uid, shown=Path(study.name))
    place = replace(output, folder=output.folder / study.name, overwrite=output.overwrite or resume)
    started = time.perf_counter()
    try:
        if resume and _unchanged(place.folder, mine, output, session):
            return {"status": "unchanged"}
        data = synthesise_into(mine, place, session, Talk(quiet=True))
    except Medk2nError as failure:
        if failure.code == "NOTHING_MISSING":
            return {"status": "complete", "code": failure.code}
        return {"status": "failed", "code": failure.code, "problem": failure.problem, "seconds": _since(started)}
    except Exception as failure:  # noqa: BLE001 - a bug in one study must not cost a night's other studies
        return {"status": "failed", "code": "BUG", "problem": type(failure).__name__, "seconds": _since(started)}
    targets = data["report"]["targets"]
    return {
        "status": "done",
        "targets": "+".join(t["modality"] for t in targets),
        "quality": "+".join(f"{t['quality']:.2f}" for t in targets),
        "seconds": _since(started),
    }


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 2)


def _unchanged(folder: Path, request: Request, output: Output, session: Session) -> bool:
    """Whether an earlier result came from the same files, options and weights."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        same = manifest["weights"]["sha256"] == session.weights.card.sha256
        same = same and manifest["options"] == request_options(request) and manifest["output"] == output_facts(output)
        listed = [(i["file"], i["sha256"]) for i in manifest["inputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not same:
        return False
    chosen = scan(request.where, request.use, request.study, request.rules).without(request.ignore).chosen()
    return same_inputs((s for m, s in chosen.items() if m in session.weights.card.modalities), listed)


@contextmanager
def _tables(folder: Path, which: Slice) -> Iterator[Any]:
    """``batch.jsonl`` and ``batch.csv``, a row of each as it comes; parts of a batch have tables of their own."""
    stem = "batch" if which.parts == 1 else f"batch_{which.part}_of_{which.parts}"
    with (
        (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8") as sheet,
        (folder / f"{stem}.jsonl").open("w", encoding="utf-8") as lines,
    ):
        writer = csv.DictWriter(sheet, COLUMNS, restval="")
        writer.writeheader()

        def write(row: dict[str, Any]) -> None:
            writer.writerow(row)
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            for stream in (sheet, lines):
                stream.flush()
            console(stderr=True).print(
                f"{row['number']} {row['study']}: {row['status']} {row.get('problem', '')}".strip(), markup=False
            )

        yield write


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One batch at a time per output folder and machine; the lock goes with its process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as failure:
        raise OutputError(
            f"Cannot write to {folder}: {failure.strerror or failure}.", next_step="Choose another --out.", code="CANNOT_WRITE"
        ) from failure
    with lock:
        if not _seize(lock):
            raise OutputError(
                f"Another batch is writing to {folder}.",
                next_step="Wait for it, give another --out, or share the work with --part 1/2 --out A and --part 2/2 --out B.",
                code="LOCKED",
            )
        yield
    (folder / _LOCK).unlink(missing_ok=True)


def _seize(lock: IO[str]) -> bool:
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _terminable() -> Iterator[None]:
    """Stopped, the study in hand is discarded whole, and the way on is said."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped; finished studies are whole. Go on with the same command and --resume.\n")
        raise


def summary(data: dict[str, Any]) -> str:
    """How many of each status."""
    counts: dict[str, int] = {}
    for row in data["rows"]:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return ", ".join(f"{n} {status}" for status, n in counts.items()) or "no studies found"
