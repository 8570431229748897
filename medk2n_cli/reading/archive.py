"""A zip archive, as a PACS exports a study, is read like the folder it holds."""

from __future__ import annotations

import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.reading.limits import holds

_IMAGES, _ASKED = (".nii", ".nii.gz", ".dcm", ".ima"), 20
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(RuntimeError, NotImplementedError, EOFError, OSError, ValueError, KeyError, IndexError, OverflowError),
)


def holds_images(file: Path) -> bool:
    """Whether it is a zip with NIfTI or DICOM files in it, by their names or what they begin with.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as stored:
            members = [m for m in stored.infolist() if not m.is_dir()]
            return any(m.filename.lower().endswith(_IMAGES) for m in members) or any(
                _begins_as_dicom(stored, m) for m in members[:_ASKED]
            )
    except _DAMAGED as failure:
        if isinstance(failure, OSError):
            raise
        return False


def _begins_as_dicom(stored: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    with stored.open(member) as stream:
        return stream.read(132)[128:] == b"DICM"


@contextmanager
def unpacked(places: Iterable[Path]) -> Iterator[tuple[Path, ...]]:
    """Folders and files as they are; a zip unpacked as a temporary folder for this user's eyes, removed at the end.

    Raises:
        StudyError: BAD_ZIP or ZIP_TOO_LARGE.
    """
    with ExitStack() as stack:
        yield tuple(_unpack(p, stack) if p.is_file() and zipfile.is_zipfile(p) else p for p in places)


def _unpack(archive: Path, stack: ExitStack) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medk2n-")))  # mode 700: it holds a patient
    try:
        with zipfile.ZipFile(archive) as stored:
            size, free = sum(i.file_size for i in stored.infolist()), shutil.disk_usage(folder).free
            if not holds(archive.stat().st_size, size):
                raise StudyError(
                    f"{archive.name} unpacks to {size / archive.stat().st_size:.0f} times its size, as no export of images does.",
                    next_step="If you trust it, unpack it yourself and give the folder to --in.",
                    code="ZIP_TOO_LARGE",
                )
            if size > free * 0.9:
                raise StudyError(
                    f"{archive.name} unpacks to {size / 2**30:.1f} GiB, and {folder.parent} has {free / 2**30:.1f} GiB free.",
                    next_step="Set TMPDIR to a folder with more space, or unpack it yourself and give the folder to --in.",
                    code="ZIP_TOO_LARGE",
                )
            stored.extractall(folder)  # drops drive letters, roots and ".." from the names
    except _DAMAGED as failure:  # its words cite the names of members, which carry patients' names
        raise StudyError(
            f"{archive.name} cannot be unpacked ({getattr(failure, 'strerror', None) or type(failure).__name__}).",
            next_step="Unpack it yourself (it may need a password) and give the folder to --in.",
            code="BAD_ZIP",
        ) from failure
    return folder
