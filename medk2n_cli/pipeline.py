"""The straight line: scan, plan, load, align, pack, run, unpack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medk2n_cli.aligning.align import Alignment, align_each
from medk2n_cli.aligning.choose import choose_reference, output_grid
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.footprint import Footprint, footprint, in_words
from medk2n_cli.core.fusion import ModelStamp, Synthesis
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import AlignedStudy, Volume
from medk2n_cli.model.card import ModelCard
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.plan import plan
from medk2n_cli.model.session import Flow, Session, open_session, run, slices_at_once
from medk2n_cli.model.store import find
from medk2n_cli.packing.concerns import Concern, Recorded, concerns, refuse
from medk2n_cli.packing.level import levelled
from medk2n_cli.packing.pack import Packed, pack
from medk2n_cli.packing.unpack import Answer, fusion_report, looks_wrong, unpack_volumes, views
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.rules import Rules
from medk2n_cli.reading.scan import load, scan

__all__ = [
    "STAGES",
    "Alignment",
    "Clock",
    "Prepared",
    "Progress",
    "Request",
    "Result",
    "compute",
    "conclude",
    "open_weights",
    "prepare",
    "synthesise",
    "synthesize",
]

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
        max_memory: refuse a study that is predicted to take more, bytes; 0 is no limit.
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
    max_memory: int = 0


@dataclass(frozen=True, eq=False)
class Result:
    """A synthesis, the study and its series that it was made from, what to look at, and how long each stage took, s."""

    synthesis: Synthesis
    study: Study
    views: Views
    sources: Mapping[Modality, Series]
    seconds: Mapping[str, float]


class Clock:
    """How long each stage took, s; stages inside others count for themselves alone."""

    def __init__(self, tell: Progress | None = None) -> None:
        self.tell: Progress = tell or (lambda stage, share: None)
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started, outer = time.perf_counter(), self._inner
        self._inner = 0.0
        self.tell(name, 0.0)
        yield
        self.tell(name, 1.0)
        whole = time.perf_counter() - started
        self.seconds[name] = round(self.seconds.get(name, 0.0) + whole - self._inner, 3)
        self._inner = outer + whole


def open_weights(weights: str | None = None, device: str = "auto", threads: int = 0, shared: bool = False) -> Session:
    """Weights by name or path (None: the embedded ones), verified and loaded on a device; `shared`: see `Device`.

    Raises:
        WeightsError: missing, damaged, or not what their card says.
        DeviceError: the device cannot be had.
    """
    return open_session(find(weights), replace(choose_device(device, threads), shared=shared))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study that is ready for the network."""

    request: Request
    study: Study
    sources: Mapping[Modality, Series]
    want: tuple[Modality, ...]
    aligned: AlignedStudy
    packed: Packed
    doubts: tuple[Concern, ...]
    footprint: Footprint
    clock: Clock


def prepare(request: Request, card: ModelCard, clock: Clock, admit: Callable[[Footprint], None] | None = None) -> Prepared:
    """Scan, plan, load, align, pack: all that comes before the network, and needs no weights but their card.

    admit: called when headers are read and voxels are not; it may wait until there is room for the study.

    Raises:
        StudyError, RequestError: see the stages.
    """
    with clock.stage("scan"):
        study = scan(request.where, request.use, request.study, request.rules, request.shown).without(request.ignore)
        study = study.nameless() if request.nameless else study
        sources = study.chosen()
        if request.want is None:
            study.require_open()
        if request.nameless:
            sources = {m: replace(s, label=m.value) for m, s in sources.items()}
        want = plan(card, sources, request.want)
        if request.dicom_only:
            study.require_dicom()
    sources = {m: s for m, s in sources.items() if m in card.modalities}
    size = _measured(request, {m: s.own_grid for m, s in sources.items()}, len(want))
    if admit is not None:
        admit(size)
    with clock.stage("align"):
        recorded: dict[Modality, Recorded] = {}

        def fetch(modality: Modality) -> Volume:
            with clock.stage("load"):
                volume = load({modality: sources[modality]})[modality]
                recorded[modality] = Recorded.of(volume)
                return volume

        aligned = align_each({m: s.own_grid for m, s in sources.items()}, fetch, request.alignment)
    with clock.stage("pack"):
        packed = pack(aligned)
        doubts = tuple(concerns({m: recorded[m] for m in sources}, aligned, packed.scales, card.input_limits))
        if request.strict:
            refuse(doubts)
    return Prepared(request, study, sources, want, aligned, packed, doubts, size, clock)


def _measured(request: Request, grids: Mapping[Modality, Grid], targets: int) -> Footprint:
    output = output_grid(grids[choose_reference(grids, request.alignment.grid)], request.alignment.grid)
    size = footprint(grids, targets, output)
    if request.max_memory and size.peak > request.max_memory:
        raise RequestError(
            f"This study would take about {in_words(size.peak)} of memory; the limit is {in_words(request.max_memory)}.",
            next_step="Raise --max-memory, ask for fewer targets with --want, or leave inputs out with --ignore.",
            code="TOO_MUCH_MEMORY",
        )
    return size


def compute(prepared: Prepared, session: Session) -> Answer:
    """The network's answer: the only step that needs weights and their device.

    Raises:
        WeightsError: GRAPH_FAILED.
    """
    clock = prepared.clock
    with clock.stage("run"):
        at_once = prepared.footprint.slices(prepared.request.max_memory, slices_at_once(session))
        flow = Flow(at_once, lambda done, total: clock.tell("run", done / total))
        output = levelled(run(session, prepared.packed.input, prepared.want, flow), prepared.packed.deep)
    return Answer(prepared.aligned, prepared.packed, output)


def conclude(prepared: Prepared, answer: Answer, card: ModelCard) -> Result:
    """Volumes on the output grid, and the report.

    Raises:
        StudyError: UNLIKE_TRAINING, with `strict`.
    """
    request, sources, clock = prepared.request, prepared.sources, prepared.clock
    with clock.stage("unpack"):
        grid = output_grid(sources[prepared.aligned.reference].own_grid, request.alignment.grid)
        made = {m: resample(v, grid) for m, v in unpack_volumes(answer).items()}
        stamp = ModelStamp(card.name, card.version, card.sha256)
        if request.strict:
            refuse(looks_wrong(answer, card.modalities, sources))
        report = fusion_report(answer, card.modalities, stamp, sources, [str(d) for d in prepared.doubts])
        seen = views(answer)
    return Result(Synthesis(made, report), prepared.study, seen, sources, clock.seconds)


def synthesise(request: Request, session: Session, progress: Progress | None = None) -> Result:
    """One study through the line.

    Raises:
        StudyError, RequestError, WeightsError: see the stages.
    """
    prepared = prepare(request, session.weights.card, Clock(progress))
    return conclude(prepared, compute(prepared, session), session.weights.card)


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
