"""The card beside the weights: what they are, what they were trained on, what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from medk2n_cli.core.errors import WeightsError
from medk2n_cli.core.modality import Modality

SCHEMA = "medk2n.model-card/1"
INPUTS = ("images", "have", "want", "gate_override", "head_override")
OUTPUTS = (
    "synthesised",
    "expected_error",
    "w_global",
    "threshold",
    "gate",
    "w_eff",
    "gain",
    "key",
    "quality",
    "head",
    "identity",
    "input_identity",
)


@dataclass(frozen=True)
class PairStatistics:
    """One (source, target) pair as training saw it: learned affinity, mean gate, weight and gain of clean inputs."""

    source: str
    target: str
    affinity: float
    gate: float
    w_eff: float
    gain: float


@dataclass(frozen=True)
class ModelCard:
    """Everything a user must know about a weights file. Fields are as in NAME.json.

    Attributes:
        slots: modalities in the order of the graph's slots.
        neighbours: C, slices the network sees at once.
        normalisation: name of the scheme in `packing.normalise`.
        spacing_mm: in-plane spacing the network was trained at.
        parameters: by module.
        pairs: gate statistics measured in training.
        training: data, steps, seconds, in plain JSON.
        metrics: by protocol and subject, in plain JSON.
        limits: sentences.
        self_test: what the graph answered to `selftest.probe` when it was exported.
        input_limits: number of a study -> [lowest, highest] that training saw (see `packing.concerns`).
    """

    name: str
    version: str
    sha256: str
    size: str
    slots: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    neighbours: int
    multiple: int
    normalisation: str
    spacing_mm: float
    parameters: dict[str, int]
    pairs: tuple[PairStatistics, ...]
    training: dict[str, object]
    metrics: dict[str, object]
    limits: tuple[str, ...]
    input_limits: dict[str, list[float]]
    self_test: tuple[float, ...]
    intended_use: str
    licence: str
    schema: str = field(default=SCHEMA)

    def __post_init__(self) -> None:
        problems = []
        if self.schema != SCHEMA:
            problems.append(f"schema is {self.schema}, this version reads {SCHEMA}")
        if len(self.sha256) != 64:
            problems.append("sha256 is not 64 digits")
        if len(set(self.slots)) != len(self.slots) or not self.slots:
            problems.append("slots are empty or repeated")
        if unknown := [s for s in self.slots if Modality.spelled(s) is None]:
            problems.append(f"unknown slots {unknown}")
        if self.inputs != INPUTS or self.outputs != OUTPUTS:
            problems.append("its graph contract is not the one this version runs")
        if problems:
            raise WeightsError(
                f"The card of weights '{self.name}' is not valid: {'; '.join(problems)}.",
                next_step="Install the version of medk2n that the weights were made for, or export them again.",
                code="BAD_CARD",
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The slots as modalities."""
        return tuple(Modality.parse(s) for s in self.slots)

    def to_dict(self) -> dict[str, object]:
        """As written to NAME.json."""
        return asdict(self)


def card_file(onnx_file: Path) -> Path:
    """Where the card of a weights file is."""
    return onnx_file.with_suffix(".json")


def read_card(onnx_file: Path) -> ModelCard:
    """The card beside a weights file.

    Raises:
        WeightsError: there is none, or it lacks fields or holds values out of range.
    """
    file = card_file(onnx_file)
    again = "Get the pair NAME.onnx and NAME.json again, or run: medk2n inspect-weights"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as failure:
        raise WeightsError(f"{onnx_file.name} has no card: {file.name} is missing.", next_step=again, code="NO_CARD") from failure
    except (OSError, ValueError) as failure:
        raise WeightsError(f"The card {file.name} cannot be read: {failure}.", next_step=again, code="BAD_CARD") from failure
    names = {f.name for f in fields(ModelCard)}
    if not isinstance(stored, dict) or names - set(stored):
        missing = sorted(names - set(stored)) if isinstance(stored, dict) else "everything"
        raise WeightsError(f"The card {file.name} lacks {missing}.", next_step=again, code="BAD_CARD")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in names}
    try:
        values["pairs"] = tuple(PairStatistics(**p) for p in stored["pairs"])
        return ModelCard(**values)
    except (TypeError, AttributeError) as failure:  # values of another kind than the fields
        raise WeightsError(f"The card {file.name} cannot be read: {failure}.", next_step=again, code="BAD_CARD") from failure
