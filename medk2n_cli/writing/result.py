"""Synthesis -> every file of a result."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.fusion import Synthesis
from medk2n_cli.digest import sha256_of
from medk2n_cli.writing.acquired import Acquired, Formats
from medk2n_cli.writing.folder import PAGE, OutputFolder, unwritable
from medk2n_cli.writing.ledger import Origin, append, entries
from medk2n_cli.writing.nifti import write_volume
from medk2n_cli.writing.report import FileDigest, write_json, write_manifest, write_sidecar, write_weights_csv

_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def write_result(
    folder: OutputFolder, synthesis: Synthesis, acquired: Acquired, formats: Formats, facts: Mapping[str, object]
) -> list[Path]:
    """Volumes first, then sidecars, report and CSV, the manifest last; then all of it put in place.

    Args:
        facts: what the manifest says beside the digests (versions, device, options, seconds, memory).

    Raises:
        OutputError: something cannot be written; nothing appears in the folder then. REPORT_FAILED: everything is in
            place but the page and the previews, or the viewer.
    """
    aside = folder.staging
    try:
        written = _images(aside, synthesis, acquired, formats, facts)
        written.append(write_json(aside / "report.json", synthesis.report.to_dict()))
        written.append(write_weights_csv(aside, synthesis.report))
        if acquired.audits:
            written.append(write_json(aside / "audit.json", {"synthetic": True, "rows": list(acquired.audits)}))
        pictures, trouble = _pictures(aside, synthesis, acquired, facts, formats)
        written += pictures
        sources = () if formats.deidentify else acquired.sources.values()  # a digest leads back to whoever has the file
        digests = [FileDigest(s.shown, sha256_of(f), "input") for s in sources for f in dict.fromkeys(s.files)]
        digests += [FileDigest(f.relative_to(aside).as_posix(), sha256_of(f), "output") for f in written]
        written.append(write_manifest(aside, facts, digests))
        if formats.ledger:  # before anything is in place: what is not in the ledger does not exist
            outputs = {d.file: d.sha256 for d in digests if d.role == "output"}
            append(formats.ledger, entries(aside, outputs, _origin(folder, synthesis, acquired, formats)))
        folder.commit()
    except OSError as failure:
        raise unwritable(folder.path, failure) from failure
    if trouble:
        why = next(iter(trouble.values()))
        raise OutputError(
            f"The volumes are in {folder.path}, but {' and '.join(trouble)} could not be made ({type(why).__name__}).",
            next_step="Use the volumes and report.json; please report this with the lines of --verbose.",
            code="REPORT_FAILED",
        ) from why
    return [folder.path / f.relative_to(aside) for f in written]


def _origin(folder: OutputFolder, synthesis: Synthesis, acquired: Acquired, formats: Formats) -> Origin:
    uids = () if formats.deidentify else tuple(s.names[-1] for s in acquired.sources.values() if s.names)
    return Origin(folder.path.absolute(), synthesis.report.model, uids)


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
    aside: Path, synthesis: Synthesis, acquired: Acquired, facts: Mapping[str, object], formats: Formats
) -> tuple[list[Path], dict[str, Exception]]:
    """Viewer, page and previews; what goes wrong with them is handed back, since it must not cost the volumes."""
    viewer = aside / "viewer.html"
    previews = {m: aside / "preview" / f"synth_{m.value}.png" for m in synthesis.volumes}
    pages = [*previews.values(), aside / PAGE]

    def scroll() -> None:
        from medk2n_cli.writing.viewer import write_viewer

        write_viewer(viewer, synthesis.report, acquired.views)

    def explain() -> None:
        from medk2n_cli.writing.figures import preview  # matplotlib costs half a second
        from medk2n_cli.writing.page import Page, write_page

        (aside / "preview").mkdir()
        for target, file in previews.items():
            file.write_bytes(preview(acquired.views, target))
        unused = () if formats.deidentify else tuple(s for s in acquired.study.series if s.unused)
        linked = viewer.name if viewer.exists() else ""
        page = Page(synthesis.report, acquired.views, unused, provenance(facts), acquired.audits, viewer=linked)
        write_page(pages[-1], page)

    trouble = {viewer.name: _attempt([viewer], scroll) if formats.viewer else None}
    trouble["report.html and the previews"] = _attempt(pages, explain)
    return [f for f in (*pages, viewer) if f.exists()], {what: why for what, why in trouble.items() if why}


def _attempt(files: Sequence[Path], make: Callable[[], None]) -> Exception | None:
    """Why `files` could not be made; then none of them is left.

    Raises:
        OSError: the disk is full or gone, which is no fault of the page: later, all of it may work.
    """
    try:
        make()
    except Exception as failure:
        if isinstance(failure, OSError) and failure.errno in _NO_DISK:
            raise
        for file in files:
            file.unlink(missing_ok=True)
        return failure
    return None


def commit_with_manifest(folder: OutputFolder, facts: Mapping[str, object]) -> None:
    """Everything in the staging folder becomes an output, listed with its digest, and is put in place.

    Raises:
        OutputError: something cannot be written.
    """
    try:
        files = sorted(f for f in folder.staging.rglob("*") if f.is_file())
        digests = [FileDigest(f.relative_to(folder.staging).as_posix(), sha256_of(f), "output") for f in files]
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
