"""DICOM files opened with limits: pydicom would read as far, and take as much memory, as the bytes tell it to."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medk2n_cli.reading.limits import holds
from medk2n_cli.reading.quiet import unwarned

_LARGEST = 2**25  # bytes of one header element: what 10,000 frames of an enhanced object need, at 3 kB each
_HEADER, _WHOLE = 2**27, 2**31  # bytes in all, but for what is skipped: pixels and other large values
_READS = 2_000_000  # about 800,000 elements and 5 s
_START, _REPEATS = 8, 1000  # bytes that begin an element; how often in a row it may be the same, as in a file of zeros
_LARGE = 2**20  # what is larger is read from the file when it is asked for
_PIXELS = 0x7FE00000
_META = 2**16  # bytes that hold the file meta information


class _Metered(io.BufferedReader):
    """A stream that ends where nothing sensible can follow."""

    def __init__(self, source: io.RawIOBase, most: int, largest: int = _LARGEST) -> None:
        super().__init__(source)
        self._largest, self._bytes_left, self._reads_left, self._repeats, self._last = largest, most, _READS, 0, b""

    def read(self, size: int | None = -1, /) -> bytes:
        """As any stream's.

        Raises:
            ValueError: too much is asked for, at once or in all, or the same comes again and again.
        """
        if size is None or not 0 <= size <= self._largest:
            raise ValueError("one of its attributes is larger than any image's")
        found = super().read(size)
        self._bytes_left, self._reads_left = self._bytes_left - len(found), self._reads_left - 1
        self._repeats = self._repeats + 1 if size == _START and found == self._last else 0
        self._last = found
        if min(self._bytes_left, self._reads_left) < 0 or self._repeats > _REPEATS:
            raise ValueError("its header goes on without end")
        return found


def read_header(file: Path, tags: Iterable[str]) -> Dataset:
    """The named attributes, without pixels.

    Raises:
        Exception: whatever a broken byte leads pydicom to.
    """
    numbers: list[BaseTag | int] = [Tag(t) for t in tags]
    with unwarned():
        if (inflated := _inflated(file)) is not None:
            return _read_inflated(inflated, numbers)
        with _Metered(io.FileIO(file), _HEADER) as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=numbers)


def read_whole(file: Path) -> Dataset:
    """All attributes; large ones, as pixels are, follow from the file when asked for.

    Raises:
        Exception: whatever a broken byte leads pydicom to.
    """
    with unwarned():
        if (inflated := _inflated(file)) is not None:
            return _read_inflated(inflated, None)
        with _Metered(io.FileIO(file), _WHOLE) as stream:
            return pydicom.dcmread(stream, force=True, defer_size=_LARGE)


def _inflated(file: Path) -> bytes | None:
    """The data set of a deflated file; None where it is not deflated.

    Raises:
        ValueError: it is a bomb. zlib.error: it is damaged.
    """
    with file.open("rb") as stream:
        syntax, start = _syntax(stream.read(_META))
        if syntax != DeflatedExplicitVRLittleEndian:
            return None
        stream.seek(start)
        stored, size = file.stat().st_size, 0
        unpack, parts = zlib.decompressobj(-zlib.MAX_WBITS), [b""]
        while not unpack.eof and (packed := unpack.unconsumed_tail or stream.read(_LARGE)):
            parts.append(unpack.decompress(packed, _LARGE))
            size += len(parts[-1])
            if not holds(stored, size):
                raise ValueError("it unpacks to far more than an image's size")
    return b"".join(parts)


def _syntax(start: bytes) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins (PS3.10 7.1); pydicom would inflate the file to tell."""
    at, syntax = 132, b""
    while start[128:132] == b"DICM" and start[at : at + 2] == b"\2\0" and len(start) >= at + 12:
        long = start[at + 4 : at + 6] in (b"OB", b"UN")
        size = int.from_bytes(start[at + 8 : at + 12] if long else start[at + 6 : at + 8], "little")
        value = at + (12 if long else 8)
        if start[at + 2 : at + 4] == b"\x10\0":
            syntax = start[value : value + size].rstrip(b"\0 ")
        at = value + size
    return syntax.decode("ascii", "replace"), at


def _read_inflated(inflated: bytes, tags: list[BaseTag | int] | None) -> Dataset:
    """As if it had never been deflated."""
    with _Metered(cast(io.RawIOBase, io.BytesIO(inflated)), _WHOLE, len(inflated)) as stream:
        found = read_dataset(stream, False, True, stop_when=_at_pixels if tags else None, specific_tags=tags)
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.set_original_encoding(False, True, found._character_set)
    return found


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) >= _PIXELS
