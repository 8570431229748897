"""`medk2n synthesize`: the straight line with a progress bar before it and a table after it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medk2n_cli import __version__
from medk2n_cli.checking.audit import audit
from medk2n_cli.cli.tables import audit_table, console, table
from medk2n_cli.core.errors import Medk2nError, RequestError
from medk2n_cli.core.fusion import FusionReport
from medk2n_cli.core.study import Series
from medk2n_cli.model.session import Session
from medk2n_cli.pipeline import STAGES, Request, Result, open_weights, synthesise
from medk2n_cli.pipeline import Progress as Tell
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.writing.acquired import Acquired, Formats
from medk2n_cli.writing.folder import MANIFEST, OutputFolder, open_folder
from medk2n_cli.writing.result import write_result

_FORMATS = ("auto", "dicom", "nifti", "both")
_LIBRARIES = ("numpy", "SimpleITK", "pydicom", "highdicom", "onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True)
class Machine:
    """Which weights run, and on what."""

    weights: str | None = None
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True)
class Talk:
    """How much is said. Progress only on a terminal."""

    quiet: bool = False
    verbose: bool = False

    @contextmanager
    def progress(self) -> Iterator[Tell]:
        """A bar on stderr over all stages."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda stage, share: None
            return
        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console(stderr=True), transient=True) as bar:
            tasks = {s: bar.add_task(s, total=1.0, visible=False) for s in STAGES}
            yield lambda stage, share: bar.update(tasks[stage], completed=share, visible=True)

    def say(self, line: str) -> None:
        """One line on stderr, only with --verbose."""
        if self.verbose:
            console(stderr=True).print(line, markup=False)


@dataclass(frozen=True)
class Output:
    """Where the result goes, and as what: auto, nifti, dicom or both; auto is DICOM where every source is.

    `audit`, `viewer`: with an audit, with a page to scroll through. `ledger`: a file that lists all that was ever written.
    """

    folder: Path
    overwrite: bool = False
    form: str = "auto"
    deidentify: bool = False
    audit: bool = False
    viewer: bool = False
    ledger: Path | None = None

    def __post_init__(self) -> None:
        if self.form not in _FORMATS:
            raise RequestError(
                f"--format {self.form} is unknown.", next_step=f"Use one of: {', '.join(_FORMATS)}.", code="BAD_FORMAT"
            )

    @property
    def dicom_only(self) -> bool:
        """Whether only a DICOM study will do."""
        return self.form in ("dicom", "both")

    def formats(self, sources: Iterable[Series]) -> Formats:
        """What to write for these sources."""
        dicom = self.form in ("dicom", "both") or (self.form == "auto" and all(s.study for s in sources))
        nifti = self.form in ("nifti", "both") or not dicom
        return Formats(nifti=nifti, dicom=dicom, deidentify=self.deidentify, viewer=self.viewer, ledger=self.ledger)


def synthesise_to_folder(request: Request, output: Output, machine: Machine, talk: Talk) -> dict[str, Any]:
    """Open the folder, load the weights, run, write; what `--json` prints comes back.

    Raises:
        Medk2nError: any of its kinds; the output folder is then as it was.
    """
    if output.ledger and output.ledger.resolve().is_relative_to(output.folder.resolve()):
        raise RequestError(
            "The ledger would lie in the folder of the result.",
            next_step="Keep it elsewhere: it outlives single results.",
            code="LEDGER_INSIDE",
        )
    with open_folder(output.folder, output.overwrite) as folder:
        session = open_weights(machine.weights, machine.device, machine.threads)
        if not talk.quiet:
            console(stderr=True).print(f"device: {session.device.name} ({session.device.why})", markup=False)
        return _synthesise(request, output, session, talk, folder)


def _synthesise(request: Request, output: Output, session: Session, talk: Talk, folder: OutputFolder) -> dict[str, Any]:
    with unpacked(request.where) as where:
        with talk.progress() as tell:
            result = synthesise(replace(request, where=where), session, tell)
        for stage, seconds in result.seconds.items():
            talk.say(f"{stage}: {seconds:.1f} s")
        rows = _audit(request, where, session) if output.audit else ()
        data = deliver(result, Delivery(request, output, session, rows), folder)
    if not talk.quiet:
        _show(result.synthesis.report)
        if rows:
            audit_table(rows)
        written = _written(output.formats(result.sources.values()))
        console().print(f"written to {output.folder}: report.html, {written}, preview, report.json", markup=False)
    return data


@dataclass(frozen=True)
class Delivery:
    """What a result is delivered with: what was asked, by which weights it was made, rows of an audit of it."""

    request: Request
    output: Output
    session: Session
    audits: tuple[dict[str, object], ...] = ()


def deliver(result: Result, how: Delivery, folder: OutputFolder) -> dict[str, Any]:
    """Write a result into its folder; what `--json` prints comes back.

    Raises:
        OutputError: see `write_result`.
    """
    request, output = how.request, how.output
    acquired = Acquired(result.study, result.sources, result.views, how.audits)
    formats = output.formats(result.sources.values())
    files = write_result(folder, result.synthesis, acquired, formats, _facts(request, output, how.session, result))
    return {
        "out": str(output.folder),
        "files": [f.relative_to(output.folder).as_posix() for f in files],
        "manifest": MANIFEST,
        "seconds": dict(result.seconds),
        "report": result.synthesis.report.to_dict(),
        "audit": list(how.audits),
    }


def _audit(request: Request, where: tuple[Path, ...], session: Session) -> tuple[dict[str, object], ...]:
    """Rows of leave-one-out on this study; none where there is nothing to leave out, and that is said."""
    try:
        return tuple(r.to_dict() for r in audit(replace(request, where=where, want=None), session).rows)
    except Medk2nError as failure:
        console(stderr=True).print(f"no audit: {failure.problem}", markup=False)
        return ()


def request_options(request: Request) -> dict[str, object]:
    """What shapes the voxels, as the manifest keeps it."""
    return {
        "want": [m.value for m in request.want] if request.want else "missing",
        "ignore": sorted(m.value for m in request.ignore),
        "use": sorted(m.value for m in request.use),
        "grid": request.alignment.grid,
        "register": request.alignment.register,
    }


def output_facts(output: Output) -> dict[str, object]:
    """What shapes the files, as the manifest keeps it; the viewer only where there is one: earlier manifests do not know it."""
    viewer = {"viewer": True} if output.viewer else {}
    return {"format": output.form, "deidentified": output.deidentify, "audit": output.audit, **viewer}


def _facts(request: Request, output: Output, session: Session, result: Result) -> dict[str, object]:
    """What the manifest says beside the digests."""
    return {
        "status": "done",
        "versions": {"medk2n": __version__, "python": platform.python_version(), **_versions()},
        "weights": {
            "name": session.weights.card.name,
            "version": session.weights.card.version,
            "sha256": session.weights.card.sha256,
        },
        "device": {"name": session.device.name, "why": session.device.why, "threads": session.device.threads},
        "options": request_options(request),
        "output": output_facts(output),
        "seconds": dict(result.seconds),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _peak_memory_mb() -> float | None:
    """Highest resident memory of this process so far; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what whoever started this process held by then
        told = dict(
            line.split(":", 1) for line in status.read_text(encoding="utf-8", errors="replace").splitlines() if ":" in line
        )
        if "VmHWM" in told:
            return round(int(told["VmHWM"].split()[0]) / 2**10, 1)
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _written(formats: Formats) -> str:
    names = {"viewer.html": formats.viewer, "synth_*.nii.gz": formats.nifti, "dicom/synth_*": formats.dicom}
    return ", ".join(name for name, there in names.items() if there)


def _show(report: FusionReport) -> None:
    """Per target: what each input gave, which gate closed, quality; then warnings, then where to look."""
    rows = []
    for target in report.targets:
        for number, c in enumerate(target.contributions):
            role = "key frame" if c.key else f"gate {'open' if c.gate else 'CLOSED'} ({c.w_global:.2f} vs {c.threshold:.2f})"
            rows.append(
                (
                    target.modality.value if number == 0 else "",
                    f"{target.quality:.2f}" if number == 0 else "",
                    c.source.value,
                    f"{c.share:.0%}",
                    role,
                )
            )
    screen = console()
    screen.print(table("SYNTHETIC, NOT FOR DIAGNOSIS", ("target", "quality", "from", "share", "how"), rows, right=(1, 3)))
    for i in report.inputs:
        if i.registration == "registered":
            screen.print(f"{i.modality.value} was moved {i.moved_mm:.1f} mm and turned {i.rotated_deg:.1f} degrees", markup=False)
    for warning in report.warnings:
        screen.print(f"warning: {warning}", markup=False)
    for target in report.targets:
        for warning in target.warnings:
            screen.print(f"warning: {target.modality.value}: {warning}", markup=False)
