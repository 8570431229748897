"""Leave one out on the patient's own data: each acquired modality synthesised from the others and compared with itself.

A proxy for how the weights do on this scanner and this patient; not the error of a modality that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.aligning.align import Alignment, align
from medk2n_cli.core.errors import RequestError, StudyError
from medk2n_cli.core.fusion import FusionReport, ModelStamp
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.views import Image, Views
from medk2n_cli.core.volumes import AlignedStudy
from medk2n_cli.model.session import Session, run
from medk2n_cli.packing.level import levelled
from medk2n_cli.packing.likeness import protocol_h, protocol_w
from medk2n_cli.packing.normalise import to_units
from medk2n_cli.packing.pack import cut, normalised, pack, put_back
from medk2n_cli.packing.unpack import Answer, fusion_report
from medk2n_cli.pipeline import Request
from medk2n_cli.reading.scan import load, scan


@dataclass(frozen=True)
class AuditRow:
    """One acquired modality made from the others.

    Attributes:
        sources: what the gates let in; `refused`: what they did not.
        r2, psnr, ssim: protocol H, on the tool's own normalisation; `r2_windowed` after the best gain and offset.
        predicted_ssim: what the weights said of it beforehand.
        error, expected_error: mean absolute error inside the head, measured and predicted, in `units`.
        looks_like: which contrast the result looks like to the weights.
    """

    target: str
    sources: tuple[str, ...]
    refused: tuple[str, ...]
    r2: float
    r2_windowed: float
    psnr: float
    ssim: float
    predicted_ssim: float
    error: float
    expected_error: float
    units: str
    looks_like: str

    def to_dict(self) -> dict[str, object]:
        """Plain JSON, rounded."""
        return {
            k: round(v, 4) if isinstance(v, float) else list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()
        }


@dataclass(frozen=True, eq=False)
class Audit:
    """All rows, and what to look at: the acquired, the synthesised, and where they differ."""

    rows: tuple[AuditRow, ...]
    report: FusionReport
    views: Views
    study: Study


@dataclass(frozen=True, eq=False)
class _Trial:
    row: AuditRow
    report: FusionReport
    made: Image
    error: Image


def audit(request: Request, session: Session) -> Audit:
    """`request.want` names the acquired modalities to try; None tries all.

    Raises:
        RequestError: NOT_ACQUIRED, a wanted modality is not there to compare with.
        StudyError: ONE_MODALITY, nothing to leave out; or as the stages say.
    """
    study = scan(request.where, request.use, request.study, request.rules, request.shown).without(request.ignore)
    sources = {m: s for m, s in study.chosen().items() if m in session.weights.card.modalities}
    targets = _targets(request, list(sources))
    whole = align(load(sources), request.alignment)
    trials = {m: _try(session, whole, m, sources) for m in targets}
    inputs = {i.modality: i for t in trials.values() for i in t.report.inputs}
    stamp = next(iter(trials.values())).report.model
    report = FusionReport(
        stamp,
        tuple(inputs[m] for m in sources if m in inputs),
        tuple(t.report.targets[0] for t in trials.values()),
        tuple(dict.fromkeys(w for t in trials.values() for w in t.report.warnings)),
    )
    acquired = {m: _seen(whole, m) for m in sources}
    views = Views(
        whole.grid,
        whole.head,
        acquired,
        {m: t.made for m, t in trials.items()},
        {m: t.error for m, t in trials.items()},
        {m: acquired[m] for m in trials},
    )
    return Audit(tuple(t.row for t in trials.values()), report, views, study)


def _targets(request: Request, acquired: Sequence[Modality]) -> list[Modality]:
    if len(acquired) < 2:
        raise StudyError(
            "An audit leaves one modality out and needs two at least; the study has "
            + (acquired[0].value if acquired else "none")
            + ".",
            next_step="Audit a study with more contrasts.",
            code="ONE_MODALITY",
        )
    missing = [m for m in request.want or () if m not in acquired]
    if missing:
        raise RequestError(
            f"{missing[0].value} was not acquired, so there is nothing to compare with.",
            next_step="Name acquired ones: --want " + ",".join(m.value for m in acquired) + ", or leave --want away.",
            code="NOT_ACQUIRED",
        )
    return [m for m in acquired if not request.want or m in request.want]


def _try(session: Session, whole: AlignedStudy, target: Modality, sources: Mapping[Modality, Series]) -> _Trial:
    """Masks and normalisation come from the inputs alone, as when the target really is missing."""
    card = session.weights.card
    aligned = align({m: v for m, v in whole.volumes.items() if m is not target}, Alignment(register=False))
    packed = pack(aligned)
    output = levelled(run(session, packed.input, [target]), packed.deep)
    placed = replace(aligned, moves={m: whole.moves[m] for m in aligned.volumes})
    stamp = ModelStamp(card.name, card.version, card.sha256)
    report = fusion_report(Answer(placed, packed, output), card.modalities, stamp, sources)
    acquired = whole.volumes[target]
    truth = cut(normalised(target, acquired, aligned.deep, aligned.head), packed.box)
    head = cut(acquired.within(aligned.head).astype(np.float32), packed.box) > 0
    made = np.maximum(output.synthesised[0], 0)
    error = np.abs(made - truth) * head
    told, h = report.targets[0], protocol_h(made, truth, head)
    row = AuditRow(
        target.value,
        tuple(c.source.value for c in told.contributions if c.gate),
        tuple(c.source.value for c in told.contributions if not c.gate),
        h.r2,
        protocol_w(made, truth, head).r2,
        float(h.psnr),
        h.ssim,
        told.quality,
        float(to_units(target, error[head]).mean()),
        told.expected_error,
        told.units,
        max(told.identity, key=lambda m: told.identity[m]).value,
    )

    def back(layers: NDArray[np.float32]) -> Image:
        return put_back(layers, packed.box, whole.grid.shape).astype(np.float16)

    return _Trial(row, report, back(made * head), back(error.astype(np.float32)))


def _seen(whole: AlignedStudy, modality: Modality) -> Image:
    return normalised(modality, whole.volumes[modality], whole.deep, whole.head).astype(np.float16)
