"""What the network decided for a volume, in a form that people and scripts read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume

SCHEMA = "medk2n.fusion-report/1"


@dataclass(frozen=True)
class Contribution:
    """How one source entered one target.

    Attributes:
        key: whether the source is the target's key frame, which always enters.
        w_global, threshold: median over the slices that decided (`pilot_slices`); the gate is open where w_global >= threshold.
        w_eff, gain: median over all slices.
        gate: the volume's decision, 0 or 1.
        share: part of the target's total weight, 0..1; the shares of a target sum to one.
        slice_w_global, slice_w_eff: per slice of the head, from inferior to superior.
    """

    source: Modality
    key: bool
    w_global: float
    threshold: float
    gate: int
    w_eff: float
    share: float
    gain: float
    slice_w_global: tuple[float, ...]
    slice_w_eff: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        """As in report.json."""
        return {
            "source": self.source.value,
            "key": self.key,
            "w_global": _r(self.w_global),
            "threshold": _r(self.threshold),
            "gate": self.gate,
            "w_eff": _r(self.w_eff),
            "share": _r(self.share),
            "gain": _r(self.gain),
            "per_slice": {"w_global": [_r(v) for v in self.slice_w_global], "w_eff": [_r(v) for v in self.slice_w_eff]},
        }


@dataclass(frozen=True)
class InputReport:
    """One acquired modality: where it came from and what it looked like.

    `identity`: mean probability over slices that the picture shows each modality.
    """

    modality: Modality
    source: str
    evidence: str
    moved_mm: float
    rotated_deg: float
    registration: str
    normalisation: str
    identity: Mapping[Modality, float]

    def to_dict(self) -> dict[str, object]:
        """As in report.json."""
        return {
            "modality": self.modality.value,
            "source": self.source,
            "evidence": self.evidence,
            "moved_mm": round(self.moved_mm, 2),
            "rotated_deg": round(self.rotated_deg, 2),
            "registration": self.registration,
            "normalisation": self.normalisation,
            "identity": {m.value: _r(p) for m, p in self.identity.items()},
        }


@dataclass(frozen=True)
class TargetReport:
    """One synthesised modality.

    Attributes:
        quality: predicted SSIM, mean over the slices of the head.
        expected_error: mean expected absolute error inside the head, in `units`.
        chosen_head: "residual" or "full".
        level: the factor that brought the volume to the level of acquired ones (`packing.level`); 1 for ADC.
    """

    modality: Modality
    quality: float
    expected_error: float
    units: str
    identity: Mapping[Modality, float]
    chosen_head: str
    level: float
    warnings: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    slice_quality: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        """As in report.json."""
        return {
            "modality": self.modality.value,
            "quality": _r(self.quality),
            "expected_error": round(self.expected_error, 2),
            "units": self.units,
            "identity": {m.value: _r(p) for m, p in self.identity.items()},
            "chosen_head": self.chosen_head,
            "level": _r(self.level),
            "warnings": list(self.warnings),
            "contributions": [c.to_dict() for c in self.contributions],
            "per_slice": {"quality": [_r(q) for q in self.slice_quality]},
        }


@dataclass(frozen=True)
class ModelStamp:
    """Which weights: name, version and SHA-256 of the ONNX file."""

    name: str
    version: str
    sha256: str

    def to_dict(self) -> dict[str, object]:
        """As in report.json."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


@dataclass(frozen=True)
class FusionReport:
    """Everything `synthesize` can say about its result."""

    model: ModelStamp
    inputs: tuple[InputReport, ...]
    targets: tuple[TargetReport, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain JSON with a schema name."""
        return {
            "schema": SCHEMA,
            "synthetic": True,
            "model": self.model.to_dict(),
            "inputs": [i.to_dict() for i in self.inputs],
            "targets": [t.to_dict() for t in self.targets],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class Synthesis:
    """The result: synthesised volumes on the output grid, and the report."""

    volumes: Mapping[Modality, Volume]
    report: FusionReport


def _r(value: float) -> float:
    return round(float(value), 4)
