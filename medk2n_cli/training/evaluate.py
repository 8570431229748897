"""Held-out studies through the tool's own line, every subset of inputs, beside the baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr

from medk2n_cli.aligning.align import Alignment, align
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput, ModelOutput
from medk2n_cli.core.volumes import AlignedStudy
from medk2n_cli.model.session import Session, run
from medk2n_cli.packing.level import level_of, levelled
from medk2n_cli.packing.pack import cut, normalised, pack
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.training import baselines
from medk2n_cli.training.baselines import FloatArray, TrainingVoxels
from medk2n_cli.training.metrics import Scores, peak_of, protocol_h, protocol_p, protocol_w, r2, ssim_by_slice
from medk2n_cli.training.prepare import study_name

Predictor = Callable[[ModelInput, Sequence[Modality]], FloatArray]  # (N, D, H, W) on the network's scale
_ERROR_BINS = 10
_NEAR = 5  # mm, at 1 mm in plane


@dataclass(frozen=True, eq=False)
class Rivals:
    """What is measured beside the weights: training voxels for the baselines, other networks by name."""

    voxels: TrainingVoxels
    networks: Mapping[str, Predictor] = field(default_factory=dict)


@dataclass(frozen=True)
class Trust:
    """How far the weights' own word can be taken.

    Attributes:
        predicted_ssim: mean over the slices.
        slices: (predicted, measured) SSIM of each slice that holds enough head.
        error_bins: (predicted, measured) mean absolute error in tenths of the voxels, by rising prediction.
        error_rank: Spearman's correlation of expected and true error over voxels inside the head.
        error_rank_near: the same of means over 5 x 5 mm in plane: the true error of one voxel is one draw from what was expected.
    """

    predicted_ssim: float
    slices: tuple[tuple[float, float], ...]
    error_bins: tuple[tuple[float, float], ...]
    error_rank: float
    error_rank_near: float

    @classmethod
    def of(cls, output: ModelOutput, n: int, truth: FloatArray, head: NDArray[np.bool_]) -> Trust:
        """Target number `n` of `output` against the truth (D, H, W)."""
        made = np.maximum(output.synthesised[n], 0)
        measured = ssim_by_slice(made, truth, head, peak_of(truth, head))
        some = np.random.default_rng(0).choice(np.flatnonzero(head), 20000)
        maps = output.expected_error[n], np.abs(made - truth)
        expected, error = (m.ravel()[some] for m in maps)
        near = [_around(m, head).ravel()[some] for m in maps]
        tenths = np.array_split(np.argsort(expected), _ERROR_BINS)
        return cls(
            float(output.quality[:, n].mean()),
            tuple((_short(p), _short(m)) for p, m in zip(output.quality[:, n], measured, strict=True) if np.isfinite(m)),
            tuple((_short(expected[t].mean()), _short(error[t].mean())) for t in tenths),
            _short(spearmanr(expected, error)[0]),
            _short(spearmanr(*near)[0]),
        )


def _around(values: FloatArray, head: NDArray[np.bool_]) -> FloatArray:
    """(D, H, W) -> mean of each voxel's neighbours in plane that lie in the head."""
    total, inside = (ndimage.uniform_filter(v.astype(np.float32), (1, _NEAR, _NEAR)) for v in (values * head, head))
    return np.asarray(total / np.maximum(inside, 1e-3), np.float32)


def _short(value: float) -> float:
    return round(float(value), 4)


@dataclass(frozen=True)
class Row:
    """One target from one subset of inputs: protocol H and W scores by method, P as (PSNR, SSIM), and the decisions.

    `own_level`: R2 under H by method, as the image came. `packing.level` is part of the tool, and so of H, for all methods but
    the constant.
    """

    subject: str
    have: tuple[str, ...]
    target: str
    h: dict[str, Scores]
    w: dict[str, Scores]
    own_level: dict[str, float]
    p: tuple[float, float]
    trust: Trust
    gates: dict[str, int]
    identity: str
    input_identity: dict[str, str]

    @property
    def name(self) -> str:
        """``T1+T2``."""
        return "+".join(self.have)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return {
            "subject": self.subject,
            "have": list(self.have),
            "target": self.target,
            "H": {k: v.to_dict() for k, v in self.h.items()},
            "W": {k: v.to_dict() for k, v in self.w.items()},
            "own_level_r2": {k: _short(v) for k, v in self.own_level.items()},
            "P": {"psnr": round(self.p[0], 3), "ssim": round(self.p[1], 4)},
            "trust": asdict(self.trust),
            "gates": self.gates,
            "identity": self.identity,
            "input_identity": self.input_identity,
        }


def evaluate(session: Session, folder: Path, rivals: Rivals) -> list[Row]:
    """All proper subsets of what the study in `folder` holds, each missing contrast scored against the acquired one."""
    whole = align(load(scan([folder]).chosen()))
    held = [m for m in Modality if m in whole.volumes]
    rows: list[Row] = []
    for k in range(1, len(held)):
        for have in combinations(held, k):
            rows += _subset(session, study_name(folder), whole, have, rivals)
    return rows


def _subset(session: Session, subject: str, whole: AlignedStudy, have: Sequence[Modality], rivals: Rivals) -> list[Row]:
    """Masks and normalisation come from the inputs alone, as when the target really is missing."""
    study = align({m: whole.volumes[m] for m in have}, Alignment(register=False))
    packed = pack(study)
    want = [m for m in whole.volumes if m not in have]
    raw = run(session, packed.input, want)
    output = levelled(raw, packed.deep)
    others = {name: predict(packed.input, want) for name, predict in rivals.networks.items()}
    inputs = dict(zip(packed.input.have, packed.input.stack, strict=True))
    slots = session.weights.card.modalities
    voxels = replace(rivals.voxels, like=study.stripped)
    rows = []
    for n, target in enumerate(want):
        acquired = whole.volumes[target]
        truth = cut(normalised(target, acquired, study.deep, study.head), packed.box)
        head = cut(acquired.within(study.head).astype(np.float32), packed.box) > 0
        each = {"medk2n": [raw.synthesised[n]], **{name: [images[n]] for name, images in others.items()}}
        each |= _baselines(inputs, target, head, voxels)
        came, made = _best_of(each, truth, head), _best_of(_at_level(each, target, packed.deep), truth, head)
        came["constant"] = made["constant"] = baselines.constant(truth, head)
        keys = {m.value: int(np.median(output.gate[:, n, k])) for k, m in enumerate(packed.input.have)}
        rows.append(
            Row(
                subject,
                tuple(m.value for m in have),
                target.value,
                {name: protocol_h(v, truth, head) for name, v in made.items()},
                {name: protocol_w(v, truth, head) for name, v in made.items()},
                {name: r2(v, truth, head) for name, v in came.items()},
                protocol_p(made["medk2n"], truth, head),
                Trust.of(output, n, truth, head),
                keys,
                slots[int(output.identity[:, n].mean(0).argmax())].value,
                {
                    m.value: slots[int(output.input_identity[:, k].mean(0).argmax())].value
                    for k, m in enumerate(packed.input.have)
                },
            )
        )
    return rows


def _baselines(
    inputs: Mapping[Modality, FloatArray], target: Modality, head: NDArray[np.bool_], training: TrainingVoxels
) -> dict[str, list[FloatArray]]:
    """(a) from each of the inputs, (b) where training studies hold what it takes."""
    matched = [baselines.histogram_matched(x, target, head, training) for x in inputs.values()]
    fitted = baselines.quadratic(inputs, target, training)
    return {"matched": matched} | ({} if fitted is None else {"quadratic": [fitted]})


def _at_level(each: Mapping[str, list[FloatArray]], target: Modality, deep: NDArray[np.bool_]) -> dict[str, list[FloatArray]]:
    """Every image as the tool's last step leaves it."""
    return {name: [np.asarray(v * level_of(target, v, deep), np.float32) for v in images] for name, images in each.items()}


def _best_of(each: Mapping[str, list[FloatArray]], truth: FloatArray, head: NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Of several images of one method the one that turns out best; none below 0."""
    return {name: max((np.maximum(v, 0) for v in images), key=lambda v: r2(v, truth, head)) for name, images in each.items()}


def by_subset(rows: Sequence[Row], method: str, score: str = "r2", protocol: str = "h") -> dict[str, float]:
    """Subset -> mean over its missing targets."""
    scored: list[tuple[Row, dict[str, Scores]]] = [(row, getattr(row, protocol)) for row in rows]
    return _means((row.name, float(getattr(scores[method], score))) for row, scores in scored if method in scores)


def _means(named: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Name -> mean of the values that bear it."""
    found: dict[str, list[float]] = {}
    for name, value in named:
        found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def summary(rows: Sequence[Row]) -> dict[str, object]:
    """What the card tells of one subject: means over all subsets, and each subset's R2."""

    def mean(method: str, score: str, protocol: str = "h") -> float:
        return round(float(np.mean(list(by_subset(rows, method, score, protocol).values()))), 4)

    def own_level(method: str) -> float:
        by_name = _means((r.name, r.own_level[method]) for r in rows if method in r.own_level)
        return _short(float(np.mean(list(by_name.values()))))

    methods = sorted({m for r in rows for m in r.h}, key=lambda m: m != "medk2n")
    identified = [r.identity == r.target for r in rows]
    named = [(a, b) for r in rows for a, b in r.input_identity.items()]
    agent = {Modality.T1.value, Modality.T1C.value}
    predicted, measured = [r.trust.predicted_ssim for r in rows], [r.h["medk2n"].ssim for r in rows]
    slices = np.array([pair for r in rows for pair in r.trust.slices])
    return {
        "subsets": len(by_subset(rows, "medk2n")),
        "protocol_H": {m: {"r2": mean(m, "r2"), "psnr": mean(m, "psnr"), "ssim": mean(m, "ssim")} for m in methods},
        "own_level": {m: {"r2": own_level(m)} for m in methods},
        "protocol_W": {m: {"r2": mean(m, "r2", "w")} for m in methods},
        "protocol_H_r2_by_subset": {m: {k: round(v, 3) for k, v in by_subset(rows, m).items()} for m in methods},
        "protocol_P_psnr_by_subset": {k: round(v, 2) for k, v in _means((r.name, r.p[0]) for r in rows).items()},
        "r2_by_number_of_inputs": _by_count(rows),
        "synthesised_named_right": round(float(np.mean(identified)), 3),
        "inputs_named_right": round(float(np.mean([a == b for a, b in named])), 3),
        "inputs_named_right_but_for_agent": round(float(np.mean([a == b or {a, b} == agent for a, b in named])), 3),
        "quality_spearman_volumes": round(float(spearmanr(predicted, measured)[0]), 3) if len(rows) > 2 else None,
        "quality_spearman_slices": round(float(spearmanr(*slices.T)[0]), 3),
        "quality_calibration": _calibration(slices),
        "expected_error_rank": round(float(np.mean([r.trust.error_rank for r in rows])), 3),
        "expected_error_rank_near": round(float(np.mean([r.trust.error_rank_near for r in rows])), 3),
        "expected_error_reliability": np.mean([r.trust.error_bins for r in rows], 0).round(4).tolist(),
    }


def _calibration(slices: NDArray[np.float64]) -> list[list[float]]:
    """[predicted, measured, slices] in fifths of the slices, by rising prediction."""
    fifths = np.array_split(slices[np.argsort(slices[:, 0])], 5)
    return [[_short(f[:, 0].mean()), _short(f[:, 1].mean()), len(f)] for f in fifths if len(f)]


def _by_count(rows: Sequence[Row]) -> dict[str, float]:
    return {k: _short(v) for k, v in _means((str(len(row.have)), row.h["medk2n"].r2) for row in rows).items()}
