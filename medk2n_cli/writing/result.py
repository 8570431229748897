"""Synthesis -> every file of a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medk2n_cli.core.fusion import Synthesis
from medk2n_cli.core.study import Series
from medk2n_cli.writing.acquired import Acquired, Formats
from medk2n_cli.writing.folder import OutputFolder, unwritable
from medk2n_cli.writing.nifti import write_volume
from medk2n_cli.writing.report import FileDigest, write_json, write_manifest, write_sidecar, write_weights_csv


def write_result(
    folder: OutputFolder, synthesis: Synthesis, acquired: Acquired, formats: Formats, facts: Mapping[str, object]
) -> list[Path]:
    """Volumes first, then sidecars, report and CSV, the manifest last; then all of it put in place.

    Args:
        facts: what the manifest says beside the digests (versions, device, options, seconds, memory).

    Raises:
        OutputError: something cannot be written; nothing appears in the folder then.
    """
    aside = folder.staging
    if formats.deidentify:
        acquired, synthesis = _nameless(acquired, synthesis)
    try:
        written = _images(aside, synthesis, acquired, formats, facts)
        written.append(write_json(aside / "report.json", synthesis.report.to_dict()))
        written.append(write_weights_csv(aside, synthesis.report))
        digests = [FileDigest(_name(s), _digest(f), "input") for s in acquired.sources.values() for f in dict.fromkeys(s.files)]
        digests += [FileDigest(f.relative_to(aside).as_posix(), _digest(f), "output") for f in written]
        written.append(write_manifest(aside, facts, digests))
        folder.commit()
    except OSError as failure:
        raise unwritable(folder.path, failure) from failure
    return [folder.path / f.relative_to(aside) for f in written]


def _images(aside: Path, synthesis: Synthesis, acquired: Acquired, formats: Formats, facts: Mapping[str, object]) -> list[Path]:
    written = []
    if formats.nifti:
        written += [write_volume(aside, m, v) for m, v in synthesis.volumes.items()]
        written += [write_sidecar(aside, synthesis.report, t) for t in synthesis.report.targets]
    if formats.dicom:
        from medk2n_cli.writing.dicom_study import write_dicom_study  # pydicom and highdicom cost 0.7 s

        options = json.dumps(facts.get("options"), sort_keys=True)
        written += write_dicom_study(aside, synthesis, acquired, options, formats.deidentify)
    return written


def _nameless(acquired: Acquired, synthesis: Synthesis) -> tuple[Acquired, Synthesis]:
    """Descriptions are free text, so a de-identified result says only which modality a source was."""
    sources = {m: replace(s, label=m.value) for m, s in acquired.sources.items()}
    inputs = tuple(replace(i, source=i.modality.value) for i in synthesis.report.inputs)
    return Acquired(acquired.study, sources), replace(synthesis, report=replace(synthesis.report, inputs=inputs))


def _name(series: Series) -> str:
    return series.label if series.is_dicom else Path(series.label).name


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
