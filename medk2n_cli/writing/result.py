"""Synthesis -> every file of a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.fusion import Synthesis
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
        OutputError: something cannot be written; nothing appears in the folder then. REPORT_FAILED: everything is in
            place but the page and the previews.
    """
    aside = folder.staging
    try:
        written = _images(aside, synthesis, acquired, formats, facts)
        written.append(write_json(aside / "report.json", synthesis.report.to_dict()))
        written.append(write_weights_csv(aside, synthesis.report))
        if acquired.audits:
            written.append(write_json(aside / "audit.json", {"synthetic": True, "rows": list(acquired.audits)}))
        pictures, trouble = _pictures(aside, synthesis, acquired, facts, formats.deidentify)
        written += pictures
        sources = () if formats.deidentify else acquired.sources.values()  # a digest leads back to whoever has the file
        digests = [FileDigest(s.shown, _digest(f), "input") for s in sources for f in dict.fromkeys(s.files)]
        digests += [FileDigest(f.relative_to(aside).as_posix(), _digest(f), "output") for f in written]
        written.append(write_manifest(aside, facts, digests))
        folder.commit()
    except OSError as failure:
        raise unwritable(folder.path, failure) from failure
    if trouble is not None:
        raise OutputError(
            f"The volumes are in {folder.path}, but report.html and the previews could not be made ({type(trouble).__name__}).",
            next_step="Use the volumes and report.json; please report this with the lines of --verbose.",
            code="REPORT_FAILED",
        ) from trouble
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


def _pictures(
    aside: Path, synthesis: Synthesis, acquired: Acquired, facts: Mapping[str, object], deidentify: bool
) -> tuple[list[Path], Exception | None]:
    """Page and previews; what goes wrong with them is handed back, since it must not cost the volumes."""
    from medk2n_cli.writing.figures import preview  # matplotlib costs half a second
    from medk2n_cli.writing.page import Page, write_page

    made: list[Path] = []
    try:
        (aside / "preview").mkdir()
        for target in synthesis.volumes:
            made.append(aside / "preview" / f"synth_{target.value}.png")
            made[-1].write_bytes(preview(acquired.views, target))
        unused = () if deidentify else tuple(s for s in acquired.study.series if s.unused)
        page = Page(synthesis.report, acquired.views, unused, provenance(facts), acquired.audits)
        return [*made, write_page(aside / "report.html", page)], None
    except Exception as failure:  # noqa: BLE001 - plotting and templates fail in many ways
        for file in (*made, aside / "report.html"):
            file.unlink(missing_ok=True)
        return [], failure


def commit_with_manifest(folder: OutputFolder, facts: Mapping[str, object]) -> None:
    """Everything in the staging folder becomes an output, listed with its digest, and is put in place.

    Raises:
        OutputError: something cannot be written.
    """
    try:
        files = sorted(f for f in folder.staging.rglob("*") if f.is_file())
        digests = [FileDigest(f.relative_to(folder.staging).as_posix(), _digest(f), "output") for f in files]
        write_manifest(folder.staging, facts, digests)
        folder.commit()
    except OSError as failure:
        raise unwritable(folder.path, failure) from failure


def provenance(facts: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The manifest's facts in the order a reader wants them."""
    names = ("weights", "versions", "device", "options", "seconds", "peak_memory_mb")
    return tuple((n.replace("_", " "), _plain(facts[n])) for n in names if n in facts)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return ", ".join(_plain(v) for v in value) or "none" if isinstance(value, list | tuple) else str(value)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
