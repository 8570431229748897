"""`medk2n batch`: many studies through the same line, the weights loaded once, one row each as it goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from medk2n_cli.batching.inbox import Inbox
from medk2n_cli.batching.lock import locked
from medk2n_cli.batching.memory import Budget
from medk2n_cli.batching.overlap import Steps, overlapped
from medk2n_cli.batching.table import Row, tables
from medk2n_cli.cli.clustering import Job, Numbered, run_on_cluster
from medk2n_cli.cli.tables import console
from medk2n_cli.cli.undertaking import Undertaker, Undertaking
from medk2n_cli.core.errors import RequestError, StudyError
from medk2n_cli.model.session import Session
from medk2n_cli.pipeline import open_weights
from medk2n_cli.reading.studies import FoundStudy, find_studies

SOME_FAILED = 8


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
        if not ((part + parts).isascii() and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            raise RequestError(f"--part {text} is no part.", next_step="Write --part 2/8: the second of eight.", code="BAD_PART")
        return cls(int(part), int(parts), limit)

    def of(self, studies: Sequence[FoundStudy]) -> list[Numbered]:
        """(number in the export, study), every `parts`-th one."""
        mine = [(n, s) for n, s in enumerate(studies, start=1) if n % self.parts == self.part % self.parts]
        return mine[: self.limit] if self.limit else mine

    @property
    def stem(self) -> str:
        """Of the tables: parts of a batch have their own."""
        return "batch" if self.parts == 1 else f"batch_{self.part}_of_{self.parts}"


@dataclass(frozen=True)
class Manner:
    """How a batch goes about its studies.

    Attributes:
        jobs: studies read at the same time, while another is in the network.
        watch: take studies from an inbox, without end, when they have not changed for so many seconds; 0 does not watch.
        cluster: address of a Dask scheduler; empty is this machine.
        dry: only say which studies there are.

    Raises:
        RequestError: BAD_MANNER, two of these exclude each other.
    """

    jobs: int = 2
    watch: float = 0.0
    cluster: str = ""
    dry: bool = False

    def __post_init__(self) -> None:
        if self.watch and (self.cluster or self.dry):
            raise RequestError(
                "--watch goes neither with --cluster nor with --dry-run.", next_step="Leave one away.", code="BAD_MANNER"
            )

    def check(self, which: Slice) -> None:
        """Whether there can be parts.

        Raises:
            RequestError: BAD_MANNER, of what is still to come there are none.
        """
        if self.watch and which.parts > 1:
            raise RequestError(
                "--watch takes all that comes, so there are no parts.", next_step="Leave --part away.", code="BAD_MANNER"
            )


def run_batch(root: Path, job: Job, which: Slice, manner: Manner) -> dict[str, Any]:
    """Every study of `root` into a folder of its own below the output folder.

    Raises:
        StudyError: the export does not exist. OutputError: another batch writes there, or the tables cannot be written.
    """
    manner.check(which)
    out = job.output.folder

    def find(place: Path) -> list[FoundStudy]:
        found = find_studies(place, out)
        return [s.nameless() for s in found] if job.output.deidentify else found

    if manner.dry:
        listed = which.of(find(root))
        return {"out": str(out), "rows": [{"number": n, "study": s.name, "status": "found"} for n, s in listed]}
    waiting = [] if manner.watch else find(root)
    if not waiting and not manner.watch:
        raise StudyError(
            f"No study found in {root}.",
            next_step="Point --in at a folder of DICOM, NIfTI or zip files; is the share mounted?",
            code="NOTHING_FOUND",
        )
    arriving = zip(count(1), Inbox(root, find, manner.watch), strict=False)
    studies = islice(arriving, which.limit or None) if manner.watch else which.of(waiting)
    rows: list[Row] = []
    session = None if manner.cluster else open_weights(job.machine.weights, job.machine.device, job.machine.threads, shared=True)
    with locked(out), tables(out, which.stem, job.resume or job.output.overwrite) as write, _explained():

        def tell(row: Row) -> None:
            write(row)
            rows.append(row)
            line = f"{row['number']} {row['study']}: {row['status']} {row.get('problem', '')}".strip()
            with suppress(OSError):  # whoever read it is gone
                console(stderr=True).print(line, markup=False)

        if session is None:
            run_on_cluster(manner.cluster, list(studies), job, tell)
        else:
            jobs = 0 if manner.watch else manner.jobs  # reading ahead in an inbox would wait for the next study
            _run_here(studies, job, session, jobs, tell)
    return {"out": str(out), "rows": sorted(rows, key=lambda r: int(str(r["number"])))}


def _run_here(studies: Iterable[Numbered], job: Job, session: Session, jobs: int, tell: Callable[[Row], None]) -> None:
    budget = Budget(job.request.max_memory)
    line = Undertaker(job.request, job.output, session, job.resume, tell, budget)

    def begin(one: tuple[int, Numbered]) -> Undertaking:
        turn, (number, study) = one
        return line.begin(turn, number, study)

    steps = Steps(begin, line.compute, line.end, Undertaking.close, budget.lift)
    overlapped(enumerate(studies), steps, jobs)


@contextmanager
def _explained() -> Iterator[None]:
    """Stopped, the study in hand is ended or discarded whole, and the way on is said."""
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
