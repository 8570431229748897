"""ModelOutput -> volumes on the aligned grid and the fusion report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.fusion import Contribution, FusionReport, InputReport, ModelStamp, TargetReport
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series
from medk2n_cli.core.tensors import ModelInput, ModelOutput, pilot_slices
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import AlignedStudy, Volume
from medk2n_cli.packing.level import MOST
from medk2n_cli.packing.normalise import to_units
from medk2n_cli.packing.pack import Packed, put_back

HEADS = ("residual", "full")
# Below these the report warns; both are probabilities or SSIM in [0, 1].
_SURE_IDENTITY, _LOW_QUALITY = 0.8, 0.6
_FAR_LEVEL = 1.5
_DIFFUSION = (Modality.DWI, Modality.ADC)


@dataclass(frozen=True, eq=False)
class Answer:
    """A study, what the network saw of it, and what it answered."""

    study: AlignedStudy
    packed: Packed
    output: ModelOutput


def unpack_volumes(answer: Answer) -> dict[Modality, Volume]:
    """Synthesised volumes on the aligned grid, in output units, zero outside the head; never negative."""
    volumes = {}
    for n, modality in enumerate(answer.output.want):
        network = put_back(answer.output.synthesised[n], answer.packed.box, answer.study.grid.shape)
        array = to_units(modality, np.maximum(network, 0) * answer.study.head)
        volumes[modality] = Volume(array, answer.study.grid, modality.units)
    return volumes


def views(answer: Answer) -> Views:
    """What was given and what came out, as a reader looks at it."""
    shape, box, packed = answer.study.grid.shape, answer.packed.box, answer.packed.input
    head = answer.study.head

    def image(layers: NDArray[np.float32]) -> NDArray[np.float16]:
        return (np.maximum(put_back(layers, box, shape), 0) * head).astype(np.float16)

    output = answer.output
    return Views(
        answer.study.grid,
        head,
        {m: image(packed.stack[k]) for k, m in enumerate(packed.have)},
        {m: image(output.synthesised[n]) for n, m in enumerate(output.want)},
        {m: image(output.expected_error[n]) for n, m in enumerate(output.want)},
    )


def looks_wrong(answer: Answer, slots: tuple[Modality, ...], series: Mapping[Modality, Series]) -> list[str]:
    """A sentence for every input whose picture contradicts what its file is taken for."""
    have = answer.packed.input.have
    return [w for k, m in enumerate(have) for w in _looks_wrong(_input(answer, slots, k, m, series[m]), m)]


def fusion_report(
    answer: Answer,
    slots: tuple[Modality, ...],
    model: ModelStamp,
    series: Mapping[Modality, Series],
    doubts: Sequence[str] = (),
) -> FusionReport:
    """Everything the network decided, per volume and per slice, and what a reader must be warned of, `doubts` first."""
    inputs = tuple(_input(answer, slots, k, m, series[m]) for k, m in enumerate(answer.packed.input.have))
    targets = tuple(_target(answer, slots, n) for n in range(len(answer.output.want)))
    warnings = [*doubts, *looks_wrong(answer, slots, series)]
    warnings += [f"{m.value}: {note}" for m in answer.packed.input.have for note in series[m].notes]
    warnings += [f"{m.value}: {move.note}" for m, move in answer.study.moves.items() if move.note]
    return FusionReport(model, inputs, targets, tuple(warnings))


def _input(answer: Answer, slots: tuple[Modality, ...], k: int, modality: Modality, series: Series) -> InputReport:
    move = answer.study.moves[modality]
    return InputReport(
        modality,
        series.shown,
        series.evidence,
        move.moved_mm,
        move.rotated_deg,
        move.how,
        answer.packed.scales[modality].note,
        _mean_identity(answer.output.input_identity[:, k], slots, _weight(answer.packed.input)),
    )


def _target(answer: Answer, slots: tuple[Modality, ...], n: int) -> TargetReport:
    output, modality = answer.output, answer.output.want[n]
    weight = _weight(answer.packed.input)
    error = put_back(output.expected_error[n], answer.packed.box, answer.study.grid.shape)[answer.study.head]
    identity = _mean_identity(output.identity[:, n], slots, weight)
    quality = float(np.average(output.quality[:, n], weights=weight))
    have = answer.packed.input.have
    level = output.level[n]
    return TargetReport(
        modality,
        quality,
        float(to_units(modality, error).mean()),
        modality.units,
        identity,
        HEADS[int(output.head[n])],
        level,
        (*_warnings(modality, have, quality, identity), *_far_off(level)),
        _contributions(output, have, n),
        tuple(float(q) for q in output.quality[:, n]),
    )


def _contributions(output: ModelOutput, have: tuple[Modality, ...], n: int) -> tuple[Contribution, ...]:
    """The key frame enters with weight 1, an auxiliary with gate * w_eff; shares are parts of their sum."""
    key, pilot = int(output.key[n]), pilot_slices(output.gate.shape[0])
    gates = [1 if k == key else int(np.median(output.gate[:, n, k]) > 0.5) for k in range(len(have))]
    weights = [1.0 if k == key else gates[k] * float(np.median(output.w_eff[:, n, k])) for k in range(len(have))]
    return tuple(
        Contribution(
            source=modality,
            key=k == key,
            gate=gates[k],
            share=weights[k] / sum(weights),
            w_global=float(np.median(output.w_global[pilot, n, k])),
            threshold=float(np.median(output.threshold[pilot, n, k])),
            w_eff=float(np.median(output.w_eff[:, n, k])),
            gain=float(np.median(output.gain[:, n, k])),
            slice_w_global=tuple(float(v) for v in output.w_global[:, n, k]),
            slice_w_eff=tuple(float(v) for v in output.w_eff[:, n, k]),
        )
        for k, modality in enumerate(have)
    )


def _weight(given: ModelInput) -> NDArray[np.float64]:
    """How much each slice counts: the area of head in it."""
    return np.asarray((given.stack[0] > 0).sum((1, 2)) + 1.0)


def _mean_identity(
    probabilities: NDArray[np.float32], slots: tuple[Modality, ...], weight: NDArray[np.float64]
) -> dict[Modality, float]:
    mean = np.average(probabilities, axis=0, weights=weight)
    return {m: float(mean[s]) for s, m in enumerate(slots)}


def _looks_wrong(report: InputReport, modality: Modality) -> list[str]:
    best = max(report.identity, key=lambda m: report.identity[m])
    if best is modality or report.identity[best] < _SURE_IDENTITY:
        return []
    return [
        f"{report.source} is used as {modality.value} ({report.evidence}) but looks like {best.value} "
        f"({report.identity[best]:.2f}): check that the file is what its name says."
    ]


def _far_off(level: float) -> list[str]:
    """Measured on held-out patients: 0.75 to 1.1. At `MOST` there may be more to correct than was."""
    if 1 / _FAR_LEVEL <= level <= _FAR_LEVEL:
        return []
    bound = {1 / MOST: " or more", MOST: " or less"}.get(level, "")
    return [f"Low confidence: the network's image was {1 / level:.2g} times{bound} as bright as this contrast is."]


def _warnings(
    modality: Modality, have: tuple[Modality, ...], quality: float, identity: Mapping[Modality, float]
) -> tuple[str, ...]:
    said = []
    if modality is Modality.T1C:
        said.append("No contrast-enhanced input: new enhancement cannot be deduced, its absence here means nothing.")
    if modality in _DIFFUSION and not set(_DIFFUSION) & set(have):
        said.append("No diffusion input: restricted diffusion cannot be deduced, its absence here means nothing.")
    if quality < _LOW_QUALITY:
        said.append(f"Low confidence: predicted SSIM {quality:.2f}.")
    best = max(identity, key=lambda m: identity[m])
    if best is not modality and identity[best] > _SURE_IDENTITY:
        said.append(f"The synthesised {modality.value} looks like {best.value} ({identity[best]:.2f}).")
    return tuple(said)
