"""`medk2n batch --cluster`: what runs on a worker, and what the client makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from medk2n_cli.batching.cluster import on_cluster
from medk2n_cli.batching.table import Row
from medk2n_cli.cli.synthesising import Machine, Output
from medk2n_cli.cli.undertaking import Undertaker
from medk2n_cli.core.errors import Medk2nError, WeightsError
from medk2n_cli.model.session import Session
from medk2n_cli.model.store import find
from medk2n_cli.pipeline import Request, open_weights
from medk2n_cli.reading.studies import FoundStudy
from medk2n_cli.writing.folder import remove_leftovers

Numbered = tuple[int, FoundStudy]


@dataclass(frozen=True)
class Job:
    """What travels to the workers with each study; results are written by them, to storage that all see."""

    request: Request
    output: Output
    machine: Machine
    resume: bool
    sha256: str = ""

    @property
    def resources(self) -> dict[str, float]:
        """A study on a GPU has it for itself."""
        return {"GPU": 1.0} if self.machine.device.startswith("cuda") else {}


_loaded: dict[tuple[Machine, str], Session] = {}
_loading = threading.Lock()


def one_study(job: Job, numbered: Numbered) -> Row:
    """On a worker: one study with the weights that this process has loaded, or loads now."""
    number, study = numbered
    told: list[Row] = []
    try:
        Undertaker(job.request, job.output, _session(job), job.resume, told.append, again=True).whole(number, study)
    except Medk2nError as failure:  # the weights or the device of this worker
        return {**_named(numbered), "status": "failed", "code": failure.code, "problem": failure.problem}
    return told[0]


def _session(job: Job) -> Session:
    with _loading:
        key = (job.machine, job.sha256)
        if key not in _loaded:
            session = open_weights(job.machine.weights, job.machine.device, job.machine.threads)
            if session.weights.card.sha256 != job.sha256:
                raise WeightsError(
                    "This worker has other weights than the client.",
                    next_step="Install the same version of medk2n on client and workers, or name a file that all see.",
                    code="OTHER_WEIGHTS",
                )
            _loaded.clear()  # weights that were replaced are of no use any more
            _loaded[key] = session
        return _loaded[key]


def run_on_cluster(address: str, studies: list[Numbered], job: Job, tell: Callable[[Row], None]) -> None:
    """Every study on some worker, with the weights that the client has; see `on_cluster` for what is raised."""
    mine = replace(job, sha256=find(job.machine.weights).card.sha256)
    for row in on_cluster(address, studies, partial(one_study, mine), mine.resources, _lost):
        tell(row)
        remove_leftovers(job.output.folder / str(row["study"]))  # of a worker that was lost, maybe on another machine


def _lost(numbered: Numbered, why: str) -> Row:
    return {**_named(numbered), "status": "failed", "code": "WORKER_LOST", "problem": f"its workers failed: {why}"}


def _named(numbered: Numbered) -> dict[str, object]:
    return {"number": numbered[0], "study": numbered[1].name}
