"""folders or files -> the images among them, by content; and what the system does not let us read, which may be one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.study import A_FOLDER, CLOSED, CLOSED_FOLDER, ZIPPED, Series
from medk2n_cli.reading.archive import holds_images
from medk2n_cli.reading.dicom_headers import is_dicom
from medk2n_cli.reading.nifti import is_nifti

# Between being listed and being looked at it went, or it is a link to nothing: no business of ours.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OF_THE_SYSTEM = ("lost+found", "System Volume Information", "$RECYCLE.BIN")  # closed on every disk, and never a study


@dataclass(frozen=True)
class Found:
    """A file, named as it is called below the place that was searched.

    Attributes:
        closed: why the system does not let us read it; empty where it does.
        folder: it is a folder that is closed.
        zipped: it is a zip that holds images; `closed` says so.
    """

    file: Path
    label: str
    closed: str = ""
    folder: bool = False
    zipped: bool = False

    def refused(self) -> Series:
        """What is closed, as a series: passed over without a word it would be a contrast that the study seems to lack."""
        if self.zipped:
            return Series(self.label, (self.file,), None).refused(ZIPPED, self.closed)
        reason = f"the system does not let us read it ({self.closed})"
        return Series(self.label, (self.file,), None).refused(CLOSED_FOLDER if self.folder else CLOSED, reason)


def images(places: Iterable[Path]) -> list[Found]:
    """NIfTI and DICOM files below folders, at any depth and in order, and single files whatever they hold; links count once.

    Raises:
        StudyError: NOT_FOUND.
    """
    found: dict[Path, Found] = {}  # by what a link leads to
    for place in places:
        for one in _at(place):
            found.setdefault(one.file if one.closed else one.file.resolve(), one)
    return list(found.values())


def _at(place: Path) -> list[Found]:
    try:
        kind = place.stat().st_mode
        if stat.S_ISDIR(kind):
            return sorted(_below(place), key=lambda f: f.file)
        if stat.S_ISREG(kind):
            _open(place)
            return [_zipped(place, _printable(place.name)) or Found(place, _printable(place.name))]
    except OSError as failure:
        if failure.errno not in _GONE:
            return [Found(place, _printable(place.name), _why(failure))]
    what = "is neither a folder nor a file" if place.exists() else "does not exist"
    raise StudyError(f"{place} {what}.", next_step="Check the path given to --in.", code="NOT_FOUND")


def _below(place: Path) -> Iterator[Found]:
    """Links to folders are not followed."""
    folders = [place]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = [(Path(e.path), e.is_dir(follow_symlinks=False)) for e in entries]
        except OSError as failure:
            if failure.errno not in _GONE and folder.name not in _OF_THE_SYSTEM:
                label = A_FOLDER if folder == place else _printable(folder.relative_to(place).as_posix()) + "/"
                yield Found(folder, label, _why(failure), folder=True)
            continue
        for path, is_folder in listed:
            if is_folder:
                folders.append(path)
            elif (one := _looked_at(path, place)) is not None:
                yield one


def _looked_at(file: Path, place: Path) -> Found | None:
    label = _printable(file.relative_to(place).as_posix())
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None
        if is_nifti(file):
            _open(file)
            return Found(file, label)
        return _zipped(file, label) or (Found(file, label) if is_dicom(file) else None)
    except OSError as failure:  # no permission, a broken disk, a share that is gone; a hidden file is somebody's lock
        return None if failure.errno in _GONE or file.name.startswith(".") else Found(file, label, _why(failure))


def _zipped(file: Path, label: str) -> Found | None:
    """An export as a zip beside other files; read where it alone is given, and named where it is not."""
    if file.suffix.lower() != ".zip" or not holds_images(file):
        return None
    return Found(file, label, "a zip archive that holds images", zipped=True)


def _open(file: Path) -> None:
    with file.open("rb") as stream:
        stream.read(1)


def _why(failure: OSError) -> str:
    return failure.strerror or "no reason given"


def _printable(name: str) -> str:
    """File names may hold bytes that are no UTF-8, and characters that move a terminal's cursor; reports are to be read."""
    return "".join(c if c.isprintable() else "?" for c in name)
