"""folders or files -> the images among them, by content; and what the system does not let us read, which may be one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.study import Series
from medk2n_cli.reading.dicom_headers import is_dicom
from medk2n_cli.reading.nifti import is_nifti

_Gone = (FileNotFoundError, NotADirectoryError)  # between being listed and being looked at: no longer our business


@dataclass(frozen=True)
class Found:
    """A file, named as it is called below the place that was searched; `closed`: why the system does not let us read it."""

    file: Path
    label: str
    closed: str = ""

    def refused(self) -> Series:
        """What is closed, as a series: passed over without a word it would be a contrast that the study seems to lack."""
        return Series(self.label, (self.file,), None).refused("CLOSED", f"the system does not let us read it ({self.closed})")


def images(places: Iterable[Path]) -> list[Found]:
    """NIfTI and DICOM files below folders, at any depth and in order, and single files whatever they hold; links count once.

    Raises:
        StudyError: NOT_FOUND.
    """
    found: dict[Path, Found] = {}  # by what a link leads to
    for place in places:
        if place.is_dir():
            for one in sorted(_below(place), key=lambda f: f.file):
                found.setdefault(one.file.resolve(), one)
        elif place.is_file():
            found.setdefault(place.resolve(), Found(place, _printable(place.name)))
        else:
            what = "is neither a folder nor a file" if place.exists() else "does not exist"
            raise StudyError(f"{place} {what}.", next_step="Check the path given to --in.", code="NOT_FOUND")
    return list(found.values())


def _below(place: Path) -> Iterator[Found]:
    """Links to folders are not followed."""
    folders = [place]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except _Gone:
            continue
        except OSError as failure:
            yield _named(folder, place, failure)
            continue
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif (one := _looked_at(Path(entry.path), place)) is not None:
                yield one


def _looked_at(file: Path, place: Path) -> Found | None:
    try:
        wanted = file.is_file() and (is_nifti(file) or is_dicom(file))
    except _Gone:
        return None
    except OSError as failure:  # no permission, a broken disk, a share that is gone
        return _named(file, place, failure)
    return _named(file, place) if wanted else None


def _named(file: Path, place: Path, failure: OSError | None = None) -> Found:
    label = _printable(file.relative_to(place).as_posix() if file != place else place.name)
    return Found(file, label, (failure.strerror or "no reason given") if failure else "")


def _printable(name: str) -> str:
    """File names may hold bytes that are no UTF-8, and characters that move a terminal's cursor; reports are to be read."""
    return "".join(c if c.isprintable() else "?" for c in name)
