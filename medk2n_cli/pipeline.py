"""The straight line: scan, plan, load, align, pack, run, unpack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medk2n_cli.aligning.align import Alignment, align
from medk2n_cli.aligning.choose import output_grid
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.fusion import ModelStamp, Synthesis
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.views import Views
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.plan import plan
from medk2n_cli.model.session import Session, open_session, run
from medk2n_cli.model.store import find
from medk2n_cli.packing.concerns import concerns, refuse
from medk2n_cli.packing.pack import pack
from medk2n_cli.packing.unpack import Answer, fusion_report, looks_wrong, unpack_volumes, views
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.rules import Rules
from medk2n_cli.reading.scan import load, scan

__all__ = ["STAGES", "Alignment", "Progress", "Request", "Result", "open_weights", "synthesise", "synthesize"]

STAGES = ("scan", "load", "align", "pack", "run", "unpack")
Progress = Callable[[str, float], None]  # stage, share of it done in 0..1


@dataclass(frozen=True)
class Request:
    """What is asked of one study.

    Attributes:
        where: folders or files.
        want: targets, or None for every modality the weights know and the study lacks.
        use: overrules recognition: modality -> file.
        ignore: acquired modalities to treat as absent.
        alignment: output grid and whether to register.
        study: UID of the one DICOM study to take, or None where there is one.
        rules: what the site calls its series.
        nameless: call series by their modality alone: descriptions are free text, and a result may have to carry none.
        strict: refuse what would only be warned of: input unlike what the weights were trained on.
        shown: name of the first place in messages, where it was unpacked from an archive.
        dicom_only: refuse a study of which a source is no DICOM series, since the result is to be one.
    """

    where: tuple[Path, ...]
    want: tuple[Modality, ...] | None = None
    use: Mapping[Modality, str] = field(default_factory=dict)
    ignore: frozenset[Modality] = frozenset()
    alignment: Alignment = field(default_factory=Alignment)
    study: str | None = None
    rules: Rules = field(default_factory=Rules)
    nameless: bool = False
    strict: bool = False
    shown: Path | None = None
    dicom_only: bool = False


@dataclass(frozen=True, eq=False)
class Result:
    """A synthesis, the study and its series that it was made from, what to look at, and how long each stage took, s."""

    synthesis: Synthesis
    study: Study
    views: Views
    sources: Mapping[Modality, Series]
    seconds: Mapping[str, float]


def open_weights(weights: str | None = None, device: str = "auto", threads: int = 0) -> Session:
    """Weights by name or path (None: the embedded ones), verified and loaded on a device.

    Raises:
        WeightsError: missing, damaged, or not what their card says.
        DeviceError: the device cannot be had.
    """
    return open_session(find(weights), choose_device(device, threads))


def synthesise(request: Request, session: Session, progress: Progress | None = None) -> Result:
    """One study through the line.

    Raises:
        StudyError, RequestError, WeightsError: see the stages.
    """
    clock = _Clock(progress or (lambda stage, share: None))
    card = session.weights.card
    with clock.stage("scan"):
        study = scan(request.where, request.use, request.study, request.rules, request.shown).without(request.ignore)
        sources = study.chosen()
        if request.nameless:
            sources = {m: replace(s, label=m.value) for m, s in sources.items()}
        want = plan(card, sources, request.want)
        if request.dicom_only:
            study.require_dicom()
    with clock.stage("load"):
        volumes = load({m: s for m, s in sources.items() if m in card.modalities})
    with clock.stage("align"):
        aligned = align(volumes, request.alignment)
    with clock.stage("pack"):
        packed = pack(aligned)
        doubts = concerns(volumes, aligned, packed.scales, card.input_limits)
        if request.strict:
            refuse(doubts)
    with clock.stage("run"):
        output = run(session, packed.input, want, lambda done, total: clock.tell("run", done / total))
    with clock.stage("unpack"):
        answer = Answer(aligned, packed, output)
        grid = output_grid(volumes[aligned.reference].grid, request.alignment.grid)
        made = {m: resample(v, grid) for m, v in unpack_volumes(answer).items()}
        stamp = ModelStamp(card.name, card.version, card.sha256)
        if request.strict:
            refuse(looks_wrong(answer, card.modalities, sources))
        report = fusion_report(answer, card.modalities, stamp, sources, [str(d) for d in doubts])
        seen = views(answer)
    return Result(Synthesis(made, report), study, seen, {m: sources[m] for m in packed.input.have}, clock.seconds)


def synthesize(
    study: str | Path, want: str | list[str] | None = None, weights: str | None = None, device: str = "auto"
) -> Synthesis:
    """The main job in one call, nothing written: volumes by modality, and the fusion report.

    Args:
        study: a folder of DICOM or NIfTI files, one file, or a zip archive.
        want: e.g. "FLAIR" or ["T2", "FLAIR"]; None asks for whatever is missing.
        weights: name or path; None takes the embedded ones.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        Medk2nError: anything the user can act on, with its next step.
    """
    names = want.split(",") if isinstance(want, str) else want
    targets = tuple(Modality.parse(n) for n in names) if names else None
    session = open_weights(weights, device)
    with unpacked((Path(study),)) as where:
        return synthesise(Request(where, targets, shown=Path(study)), session).synthesis


class _Clock:
    def __init__(self, tell: Progress) -> None:
        self.tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        self.tell(name, 0.0)
        yield
        self.tell(name, 1.0)
        self.seconds[name] = round(time.perf_counter() - started, 3)
