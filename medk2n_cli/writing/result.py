"""Synthesis -> every file of a result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from medk2n_cli.core.fusion import Synthesis
from medk2n_cli.writing.folder import OutputFolder, unwritable
from medk2n_cli.writing.nifti import write_volume
from medk2n_cli.writing.report import FileDigest, write_json, write_manifest, write_sidecar, write_weights_csv


def write_result(
    folder: OutputFolder, synthesis: Synthesis, inputs: Mapping[str, Iterable[Path]], facts: Mapping[str, object]
) -> list[Path]:
    """Volumes first, then sidecars, report and CSV, the manifest last; then all of it put in place.

    Args:
        inputs: label -> files, for their digests.
        facts: what the manifest says beside the digests (versions, device, seconds, memory).

    Raises:
        OutputError: something cannot be written; nothing appears in the folder then.
    """
    aside = folder.staging
    try:
        written = [write_volume(aside, m, v) for m, v in synthesis.volumes.items()]
        written += [write_sidecar(aside, synthesis.report, t) for t in synthesis.report.targets]
        written.append(write_json(aside / "report.json", synthesis.report.to_dict()))
        written.append(write_weights_csv(aside, synthesis.report))
        digests = [FileDigest(label, _digest(f), "input") for label, files in inputs.items() for f in files]
        digests += [FileDigest(f.name, _digest(f), "output") for f in written]
        written.append(write_manifest(aside, facts, digests))
        folder.commit()
    except OSError as failure:
        raise unwritable(folder.path, failure) from failure
    return [folder.path / f.name for f in written]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
