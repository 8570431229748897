"""One study of a batch: begun, computed, ended; its failure becomes a row and touches no other study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from medk2n_cli.batching.memory import Budget
from medk2n_cli.batching.table import Row
from medk2n_cli.cli.synthesising import Delivery, Output, deliver, output_facts, request_options
from medk2n_cli.core.errors import Medk2nError
from medk2n_cli.core.footprint import Footprint
from medk2n_cli.model.session import Session
from medk2n_cli.packing.unpack import Answer
from medk2n_cli.pipeline import Clock, Prepared, Request, compute, conclude, prepare
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.scan import scan
from medk2n_cli.reading.studies import FoundStudy, same_inputs
from medk2n_cli.writing.folder import MANIFEST, PAGE, OutputFolder, open_folder, remove_dead


@dataclass(eq=False)
class Undertaking:
    """A study under way. `row` is what the tables say of it, empty while nothing is certain; `taken` bytes of the budget."""

    number: int
    study: FoundStudy
    output: Output
    held: ExitStack = field(default_factory=ExitStack)
    clock: Clock = field(default_factory=Clock)
    row: dict[str, object] = field(default_factory=dict)
    folder: OutputFolder | None = None
    prepared: Prepared | None = None
    answer: Answer | None = None

    def close(self) -> None:
        """Let go of its folder and its memory; what was staged and not committed goes."""
        self.held.close()
        self.prepared = self.answer = None


@dataclass(frozen=True, eq=False)
class Undertaker:
    """What every study of a batch is done with.

    Attributes:
        request, output: `where` and `folder` are replaced for each study.
        resume: leave results alone that came from the same files, options and weights.
        tell: gets each finished row.
        again: a study may come a second time, since whoever did it was lost before its row was home.
    """

    request: Request
    output: Output
    session: Session
    resume: bool
    tell: Callable[[Row], None]
    budget: Budget = field(default_factory=Budget)
    again: bool = False

    def begin(self, turn: int, number: int, study: FoundStudy) -> Undertaking:
        """Open its folder, read and pack it; `turn` counts from 0 in the order of computing."""
        folder = self.output.folder / study.name
        mine = Undertaking(number, study, replace(self.output, folder=folder, overwrite=self.output.overwrite or self.resume))
        request = replace(self.request, where=study.where, study=study.uid, shown=Path(study.name))

        def admit(size: Footprint) -> None:
            self.budget.take(turn, size.peak)
            mine.held.callback(self.budget.give, size.peak)

        def work() -> None:
            remove_dead(folder)  # also where nothing will be written: what a killed run staged are a patient's images
            opened = replace(request, where=mine.held.enter_context(unpacked(study.where)))
            if (self.resume or self.again) and unchanged(folder, opened, self.output, self.session):
                mine.row = {"status": "unchanged", **_told_of(_report(folder)["targets"])}
                return
            mine.folder = mine.held.enter_context(open_folder(folder, mine.output.overwrite))
            mine.prepared = prepare(opened, self.session.weights.card, mine.clock, admit)

        _guarded(mine, work)
        self.budget.skip(turn)
        return mine

    def compute(self, mine: Undertaking) -> Undertaking:
        """The network."""

        def work() -> None:
            if mine.prepared:
                mine.answer = compute(mine.prepared, self.session)

        if not mine.row:
            _guarded(mine, work)
        return mine

    def end(self, mine: Undertaking) -> None:
        """Write its result and tell its row."""

        def work() -> None:
            if mine.prepared and mine.answer and mine.folder:
                result = conclude(mine.prepared, mine.answer, self.session.weights.card)
                with mine.clock.stage("write"):
                    data = deliver(result, Delivery(mine.prepared.request, mine.output, self.session), mine.folder)
                mine.row = {
                    "status": "done",
                    **_told_of(data["report"]["targets"]),
                    "seconds": _seconds(mine),
                    "seconds_run": round(mine.clock.seconds["run"], 2),
                }

        if not mine.row:
            _guarded(mine, work)
        mine.close()
        self.tell({"number": mine.number, "study": mine.study.name, **mine.row})

    def whole(self, number: int, study: FoundStudy) -> None:
        """All of it, one after the other."""
        mine = self.begin(0, number, study)
        try:
            self.end(self.compute(mine))
        finally:
            mine.close()


def _guarded(mine: Undertaking, work: Callable[[], None]) -> None:
    started = time.perf_counter()
    try:
        work()
    except Medk2nError as failure:
        mine.row = {"status": "failed", "code": failure.code, "problem": failure.problem}
        if failure.code == "NOTHING_MISSING":
            mine.row = {"status": "complete", "code": failure.code}
    except Exception as failure:  # noqa: BLE001 - a bug in one study must not cost a night's other studies
        mine.row = {"status": "failed", "code": "BUG", "problem": type(failure).__name__}
    if mine.row.get("status") == "failed":
        mine.row["seconds"] = round(max(_seconds(mine), time.perf_counter() - started), 2)
        mine.close()


def _seconds(mine: Undertaking) -> float:
    """What the study itself took, without waiting for others."""
    return round(sum(mine.clock.seconds.values()), 2)


def _report(folder: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((folder / "report.json").read_text(encoding="utf-8")))


def _told_of(targets: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What a row says of a result."""
    return {
        "targets": "+".join(t["modality"] for t in targets),
        "quality": "+".join(f"{t['quality']:.2f}" for t in targets),
    }


def unchanged(folder: Path, request: Request, output: Output, session: Session) -> bool:
    """Whether an earlier result came from the same files, options and weights."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        same = manifest["weights"]["sha256"] == session.weights.card.sha256
        same = same and manifest["options"] == request_options(request) and manifest["output"] == output_facts(output)
        outputs = [o["file"] for o in manifest["outputs"]]
        same = same and PAGE in outputs and all((folder / o).is_file() for o in outputs)  # without a page it could not be made
        listed = [(i["file"], i["sha256"]) for i in manifest["inputs"]]
        report = _report(folder)
        _told_of(report["targets"])  # which the row will need
        taken_for = [(i["modality"], i["source"]) for i in report["inputs"]]
        if not same:
            return False
        chosen = scan(request.where, request.use, request.study, request.rules).without(request.ignore).chosen()
        sources = {m: s for m, s in chosen.items() if m in session.weights.card.modalities}
        known = [(m.value, s.shown) for m, s in sources.items()]  # rules or recognition may have changed
        return sorted(known) == sorted(taken_for) and same_inputs(sources.values(), listed)
    except (OSError, ValueError, KeyError, TypeError):
        return False
