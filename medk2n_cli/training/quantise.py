"""NAME.onnx -> a variant whose residual blocks compute in eight bits, refused where it answers worse.

Post-training static quantisation (Jacob et al., CVPR 2018) by ONNX Runtime: weights of each output channel and activations of
each convolution get a scale of their own, measured on training data. Only what the residual blocks compute is rounded; the
stream they add to, the vector part (gates, weights) and the heads' last layers stay in float32.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput, ModelOutput
from medk2n_cli.digest import sha256_of
from medk2n_cli.model.card import ModelCard
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import Session, open_session, run
from medk2n_cli.model.store import Weights
from medk2n_cli.training.dataset import SLOTS, PackedStudy, Sample
from medk2n_cli.training.export import keep
from medk2n_cli.training.gates import questions
from medk2n_cli.training.refusal import Refusal

MOST_DB_LOST = 0.1
ROUNDED = re.compile(r"\.blocks\..*\.(first|second)\.|\.down\.|\.hidden\.")


class TooRough(Refusal):
    """The variant loses more than `MOST_DB_LOST` on the mean; nothing was written."""


@dataclass(frozen=True)
class Loss:
    """One question to both graphs: PSNR of the original minus PSNR of the variant, and whether all gates agree."""

    subject: str
    have: tuple[str, ...]
    target: str
    db_lost: float
    same_gates: bool
    quality_off: float


def quantise(weights: Weights, file: Path, samples: Sequence[Sample], checks: Sequence[PackedStudy]) -> ModelCard:
    """Write ``file`` (.onnx) and its card; scales come from `samples`, the loss from all subsets of `checks`.

    Raises:
        TooRough: the mean loss over `checks` is more than 0.1 dB.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        _write_graph(weights.file, part, _Samples(samples))
        card = replace(weights.card, name=file.stem, sha256=sha256_of(part), metrics={}, self_test=())
        both = _Both(*(open_session(w, choose_device("cpu")) for w in (weights, Weights(part, card))))
        told = summary(weights.card, [row for study in checks for row in _losses(both, study)], both.times_faster)
        if float(str(told["db_lost_mean"])) > MOST_DB_LOST:
            raise TooRough(f"eight bits lose {told['db_lost_mean']} dB, more than {MOST_DB_LOST} dB; nothing was written")
        limit = f"Eight-bit variant of {weights.card.name}, whose card has the tables; here stands what it loses beside it."
        return keep(part, replace(card, metrics={"eight bits": told}, limits=(*card.limits, limit)), file)


def summary(original: ModelCard, found: Sequence[Loss], times_faster: float) -> dict[str, object]:
    """What the card says of the variant."""
    lost = [r.db_lost for r in found]
    subjects = sorted({r.subject for r in found})
    by_subject = {s: round(float(np.mean([r.db_lost for r in found if r.subject == s])), 3) for s in subjects}
    return {
        "of": original.name,
        "of_sha256": original.sha256,
        "questions": len(found),
        "db_lost_mean_by_subject": by_subject,
        "db_lost_mean": round(float(np.mean(lost)), 3),
        "db_lost_most": round(max(lost), 3),
        "same_gates": round(float(np.mean([r.same_gates for r in found])), 3),
        "predicted_ssim_off_most": round(max(r.quality_off for r in found), 3),
        "times_faster": round(times_faster, 2),
    }


def _write_graph(source: Path, file: Path, reader: CalibrationDataReader) -> None:
    graph = onnx.load(source).graph
    chosen = [n.name for n in graph.node if n.op_type == "Conv" and ROUNDED.search(n.input[1])]
    quantize_static(
        str(source),
        str(file),
        reader,
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=chosen,
        per_channel=True,
        reduce_range=True,  # seven bits of weight: processors without VNNI would overflow at eight
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"CalibMovingAverage": True},  # over samples: the one brightest voxel of all would coarsen every step
    )
    model = onnx.load(file)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """Slices of training with a subset of their contrasts and up to two of those left out, always the same ones."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._feeds = _feeds(samples)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        return next(self._feeds, None)


def _feeds(samples: Sequence[Sample]) -> Iterator[dict[str, NDArray[np.generic]]]:
    chance = np.random.default_rng(8)
    for sample in samples:
        slots = chance.permutation(sample.slots)
        k = int(chance.integers(1, len(slots)))
        have, want = slots[:k], slots[k : k + 2]
        yield {
            "images": sample.acquired[have.tolist()].float().numpy()[None],
            "have": have,
            "want": want,
            "gate_override": np.full((len(want), k), -1, np.float32),
            "head_override": np.full(len(want), -1, np.int64),
        }


@dataclass(eq=False)
class _Both:
    """The two graphs, asked the same by turns and timed."""

    original: Session
    variant: Session
    seconds: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def ask(self, given: ModelInput, want: Modality) -> tuple[ModelOutput, ModelOutput]:
        """What each makes of `given`."""
        at = [time.perf_counter()]
        answers = []
        for session in (self.original, self.variant):
            answers.append(run(session, given, [want]))
            at.append(time.perf_counter())
        self.seconds = self.seconds[0] + at[1] - at[0], self.seconds[1] + at[2] - at[1]
        return answers[0], answers[1]

    @property
    def times_faster(self) -> float:
        """Of the variant, over all that was asked."""
        return self.seconds[0] / self.seconds[1]


def _losses(both: _Both, study: PackedStudy) -> Iterator[Loss]:
    """Every proper subset of a study's contrasts and every contrast it lacks, on all of its slices."""
    head = study.head.numpy() > 0
    modalities = [SLOTS[s] for s in study.slots]
    for have, target in questions(len(modalities), 1):
        given = ModelInput(study.images[list(have)].float().numpy(), tuple(modalities[h] for h in have))
        before, after = both.ask(given, modalities[target])
        truth = study.images[target].float().numpy()
        errors = [float(np.square(a.synthesised[0] - truth)[head].mean()) for a in (before, after)]
        yield Loss(
            study.name,
            tuple(m.value for m in given.have),
            modalities[target].value,
            10 * float(np.log10(errors[1] / errors[0])),
            bool((before.gate == after.gate).all()),
            float(np.abs(before.quality.mean() - after.quality.mean())),
        )
