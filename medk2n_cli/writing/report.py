"""report.json, fusion_weights.csv, sidecars and the manifest."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.fusion import FusionReport, TargetReport
from medk2n_cli.writing.folder import MANIFEST, RESULT_SCHEMA

NOT_FOR_DIAGNOSIS = "Synthetic image for research. Not for diagnosis."
COLUMNS = (
    "target",
    "source",
    "key",
    "w_global",
    "threshold",
    "gate",
    "w_eff",
    "share",
    "gain",
    "target_quality",
    "weights_sha256",
)


@dataclass(frozen=True)
class FileDigest:
    """One file by name, with the SHA-256 of its content."""

    file: str
    sha256: str
    role: str

    def to_dict(self) -> dict[str, str]:
        """As in result.json."""
        return {"file": self.file, "sha256": self.sha256, "role": self.role}


def write_json(file: Path, value: Mapping[str, object]) -> Path:
    """Indented, UTF-8, one final newline."""
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def write_sidecar(folder: Path, report: FusionReport, target: TargetReport) -> Path:
    """``synth_FLAIR.json`` beside its volume."""
    return write_json(
        folder / f"synth_{target.modality.value}.json",
        {
            "synthetic": True,
            "modality": target.modality.value,
            "units": target.units,
            "sources": [c.source.value for c in target.contributions if c.gate],
            "rejected_sources": [c.source.value for c in target.contributions if not c.gate],
            "source_files": [i.source for i in report.inputs],
            "weights": report.model.to_dict(),
            "predicted_ssim": round(target.quality, 4),
            "expected_absolute_error": round(target.expected_error, 2),
            "level": round(target.level, 4),
            "warnings": list(target.warnings),
            "note": NOT_FOR_DIAGNOSIS,
        },
    )


def write_weights_csv(folder: Path, report: FusionReport) -> Path:
    """``fusion_weights.csv``: one row per target and source."""
    file = folder / "fusion_weights.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.DictWriter(stream, COLUMNS)
        rows.writeheader()
        for target in report.targets:
            for c in target.contributions:
                row = {k: v for k, v in c.to_dict().items() if k in COLUMNS}
                rows.writerow(
                    row
                    | {
                        "target": target.modality.value,
                        "target_quality": round(target.quality, 4),
                        "weights_sha256": report.model.sha256,
                    }
                )
    return file


def write_manifest(folder: Path, facts: Mapping[str, object], digests: list[FileDigest]) -> Path:
    """``result.json``, the last file of a result: inputs, outputs, versions, weights, device, times, memory."""
    return write_json(
        folder / MANIFEST,
        {
            "schema": RESULT_SCHEMA,
            "synthetic": True,
            **facts,
            "inputs": [d.to_dict() for d in digests if d.role == "input"],
            "outputs": [d.to_dict() for d in digests if d.role == "output"],
        },
    )
