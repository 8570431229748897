"""What a compressed frame says of itself. The decoders below ITK believe it, and write past their memory where it is a lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG, _JPEG2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # ITU T.81 table B.1; F7 is JPEG-LS (T.87)
_SCAN = 0xDA
_BITS = (8, 16)  # of a pixel in memory, as far as the decoders below ITK go
_BOXES = 1024  # bytes that may stand before a JPEG 2000 codestream (a JP2 file's boxes)
_MOST_TILES = 65535  # T.800 A.5.1


@dataclass(frozen=True)
class Frame:
    """Size in pixels, bits of a sample, samples of a pixel."""

    rows: int
    columns: int
    bits: int
    samples: int = 1


def check_stream(stream: bytes, said: Frame) -> None:
    """Whether a codestream is of the frame that the DICOM header tells of; of the bits, no more than those allocated.

    Raises:
        ValueError: it is not, or it is no codestream.
    """
    try:
        own = _jpeg(stream) if stream.startswith(_JPEG) else _jpeg2000(stream)
    except (struct.error, IndexError) as failure:
        raise ValueError("no JPEG") from failure
    same = (own.rows, own.columns, own.samples) == (said.rows, said.columns, said.samples)
    if not same or said.bits not in _BITS or not 2 <= own.bits <= said.bits:
        raise ValueError(f"it holds {own.rows} x {own.columns} pixels of {own.samples} samples with {own.bits} bits")


def _jpeg(stream: bytes) -> Frame:
    """Every segment up to the first scan: one frame header, and it alone."""
    at, found = 2, []
    while (marker := stream[at + 1]) != _SCAN:
        if stream[at] != 0xFF:
            raise ValueError("no JPEG marker where one belongs")
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker in _FRAME_HEADERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, at + 4)
            found.append(Frame(rows, columns, bits, samples))
        at += 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    if len(found) != 1:
        raise ValueError(f"a JPEG with {len(found)} frame headers")
    return found[0]


def _jpeg2000(stream: bytes) -> Frame:
    """The image and tile size segment (T.800 A.5.1)."""
    start = stream.find(_JPEG2000, 0, _BOXES)
    if start < 0:
        raise ValueError("neither JPEG nor JPEG 2000")
    right, bottom, left, top, wide, high, tile_left, tile_top, samples, bits, x, y = struct.unpack_from(
        ">8IH3B", stream, start + 8
    )
    tiled = wide and high and -(-(right - tile_left) // wide) * -(-(bottom - tile_top) // high) <= _MOST_TILES
    if not tiled or (x, y) != (1, 1):
        raise ValueError("JPEG 2000 tiles or samples of no image")
    return Frame(bottom - top, right - left, (bits & 0x7F) + 1, samples)
