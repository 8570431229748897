"""A ledger of every synthetic object ever written, so that what bad weights made can be recalled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medk2n_cli.core.errors import OutputError, RequestError
from medk2n_cli.core.fusion import ModelStamp

SCHEMA = "medk2n.ledger/1"


@dataclass(frozen=True)
class Entry:
    """One synthetic object: a DICOM series (MR or SR) or a NIfTI file.

    Attributes:
        time: when it was written, UTC, ISO 8601.
        result: the result folder; `file`: the object in it, of a series its folder.
        modality: MR contrast, or SR for a structured report.
        series_uid, study_uid, objects: of DICOM, its UIDs and those of its instances; else empty.
        sha256: of a NIfTI file; else empty.
        weights: name, version and digest of what made it.
        sources: UIDs of the acquired series it came from; empty without DICOM sources, and for a deidentified result.
    """

    time: str
    result: str
    file: str
    modality: str
    series_uid: str
    study_uid: str
    objects: tuple[str, ...]
    sha256: str
    weights: Mapping[str, str]
    sources: tuple[str, ...]

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}) + "\n"


@dataclass(frozen=True)
class Origin:
    """What all objects of one result share: its folder, the weights, the acquired series."""

    result: Path
    weights: ModelStamp
    sources: tuple[str, ...]


def entries(staged: Path, digests: Mapping[str, str], origin: Origin) -> list[Entry]:
    """What a result that lies in `staged` adds to the ledger; `digests`: SHA-256 by relative name."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    stamp = {"name": origin.weights.name, "version": origin.weights.version, "sha256": origin.weights.sha256}

    def entry(file: str, modality: str, uids: tuple[str, str, tuple[str, ...]], digest: str) -> Entry:
        return Entry(now, str(origin.result), file, modality, *uids, digest, stamp, origin.sources)

    found = []
    for name in sorted(digests):
        if name.endswith(".nii.gz"):
            modality = Path(name).name.removesuffix(".nii.gz").removeprefix("synth_")
            found.append(entry(name, modality, ("", "", ()), digests[name]))
    return found + [entry(folder, modality, uids, "") for folder, modality, uids in _series(staged)]


def _series(staged: Path) -> Iterator[tuple[str, str, tuple[str, str, tuple[str, ...]]]]:
    """(folder, modality, (series, study, instances)) of every DICOM series in `staged`."""
    if not (staged / "dicom").is_dir():
        return
    import pydicom  # costs 0.4 s

    by_series: dict[str, list[pydicom.Dataset]] = {}
    places: dict[str, str] = {}
    tags = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality"]
    for file in sorted(f for f in (staged / "dicom").rglob("*") if f.is_file()):
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
        by_series.setdefault(str(header.SeriesInstanceUID), []).append(header)
        places.setdefault(str(header.SeriesInstanceUID), file.parent.relative_to(staged).as_posix())
    for uid, headers in by_series.items():
        modality = "SR" if headers[0].Modality == "SR" else Path(places[uid]).name.removeprefix("synth_")
        yield places[uid], modality, (uid, str(headers[0].StudyInstanceUID), tuple(str(h.SOPInstanceUID) for h in headers))


def append(ledger: Path, added: Sequence[Entry]) -> None:
    """Add lines, whole or not at all, however many processes write: the file is locked, and synced before it is let go.

    Raises:
        OutputError: NO_LEDGER, it cannot be written.
    """
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a+b") as file, _exclusive(file.fileno()):
            length = file.seek(0, os.SEEK_END)
            file.write(_gap(file.fileno(), length) + "".join(e.to_line() for e in added).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as failure:
        raise OutputError(
            f"The ledger {ledger} cannot be written: {failure.strerror or failure}; so nothing was.",
            next_step="Give a file that can be written to --ledger, or leave it away.",
            code="NO_LEDGER",
        ) from failure


def _gap(descriptor: int, length: int) -> bytes:
    """A line that a killed process left unfinished is closed, so that it spoils no other."""
    if os.name == "nt" or not length:
        return b""
    return b"" if os.pread(descriptor, 1, length - 1) == b"\n" else b"\n"


@contextmanager
def _exclusive(descriptor: int) -> Iterator[None]:
    if os.name == "nt":
        import msvcrt

        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        try:
            yield
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield  # closing the file unlocks it


def read(ledger: Path, weights: str = "") -> tuple[list[dict[str, object]], int]:
    """Entries made by weights whose SHA-256 begins with `weights` (or that bear this name), and how many lines are broken.

    Raises:
        RequestError: LEDGER_NOT_FOUND.
    """
    try:
        lines = ledger.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as failure:
        raise RequestError(
            f"The ledger {ledger} cannot be read: {failure.strerror or failure}.",
            next_step="Name the file that --ledger was given.",
            code="LEDGER_NOT_FOUND",
        ) from failure
    found, broken = [], 0
    for line in filter(str.strip, lines):
        entry: Any = None
        with suppress(ValueError):
            entry = json.loads(line)
        if not _is_entry(entry):
            broken += 1
        elif _made_by(entry["weights"], weights):
            found.append(entry)
    return found, broken


def _is_entry(entry: Any) -> bool:  # noqa: ANN401 - whatever JSON a line holds
    if not isinstance(entry, dict) or entry.get("schema") != SCHEMA or {f.name for f in fields(Entry)} - set(entry):
        return False
    return isinstance(entry["weights"], dict) and {"name", "version", "sha256"} <= set(entry["weights"])


def _made_by(stamp: Mapping[str, str], asked: str) -> bool:
    """`asked`: nothing, a name, NAME@VERSION, or the beginning of a digest."""
    known = (stamp["name"], f"{stamp['name']}@{stamp['version']}")
    return not asked or asked in known or stamp["sha256"].startswith(asked.lower())
