"""The NIfTI-1 header by itself (nifti1.h), examined before ITK sees the file: ITK prints, and takes memory, by what it claims."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

LENGTH = 348
_SINGLE_FILE = b"n+1\0"
_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8}  # datatype -> of one voxel
_FLOATS = {16: "f4", 64: "f8"}
_MOST_EXTENSION = 2**26  # bytes between header and voxels: whole DICOM headers are kept there
_FARTHEST = 1e5  # mm: 100 m
_TOLERANCE_MM = 1.0  # how far apart the two transforms of a header may put a corner


@dataclass(frozen=True)
class Header:
    """What reading needs to know of a valid header.

    Attributes:
        raw: its 348 bytes.
        order: "<" or ">".
        size: voxels along each axis, trailing axes of one voxel left out.
        datatype: code of nifti1.h.
        start: byte at which the voxels begin.
    """

    raw: bytes
    order: str
    size: tuple[int, ...]
    datatype: int
    start: int

    @property
    def voxel_bytes(self) -> int:
        """Bytes of one voxel."""
        return _BYTES[self.datatype]

    @property
    def float_type(self) -> str | None:
        """NumPy's name of the type where voxels are floating point numbers."""
        return self.order + _FLOATS[self.datatype] if self.datatype in _FLOATS else None

    @property
    def end(self) -> int:
        """Byte at which the voxels end."""
        return self.start + math.prod(self.size) * self.voxel_bytes

    def numbers(self, layout: str, at: int) -> tuple[float, ...]:
        """Fields as `struct` reads them."""
        return struct.unpack_from(self.order + layout, self.raw, at)


def opened(file: Path) -> BinaryIO:
    """The file's bytes, decompressed where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


def read_header(file: Path) -> Header:
    """The header of a single-file NIfTI-1.

    Raises:
        ValueError: it is none, and why. OSError, EOFError, zlib.error: it cannot be read.
    """
    with opened(file) as stream:
        raw = stream.read(LENGTH)
    if len(raw) < LENGTH:
        raise ValueError("not a readable NIfTI image (truncated, or something else by this name)")
    order = next((o for o in "<>" if struct.unpack_from(o + "i", raw)[0] == LENGTH), None)
    if order is None or raw[344:348] != _SINGLE_FILE:
        raise ValueError("not a readable NIfTI-1 image in one file (truncated, or something else by this name)")
    dim = struct.unpack_from(order + "8h", raw, 40)
    (datatype,), (offset,) = struct.unpack_from(order + "h", raw, 70), struct.unpack_from(order + "f", raw, 108)
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ValueError("its header is damaged: it has no size")
    if datatype not in _BYTES:
        raise ValueError(f"its voxels are no plain numbers (NIfTI datatype {datatype})")
    if not 0 <= offset <= _MOST_EXTENSION:
        raise ValueError("its header is damaged: its voxels begin nowhere")
    header = Header(raw, order, _without_ones(dim[1 : dim[0] + 1]), datatype, max(LENGTH, int(offset)))
    _check_affine(header)
    return header


def _check_affine(header: Header) -> None:
    """ITK decomposes the sform without looking, and with an infinite number in it never comes to an end."""
    (qform_code, sform_code), used = header.numbers("2h", 252), [*header.numbers("4f", 76)]
    used += header.numbers("6f", 256) if qform_code > 0 else ()
    used += header.numbers("12f", 280) if sform_code > 0 else ()
    if not all(abs(v) < _FARTHEST for v in used):  # NaN is not less either
        raise ValueError("the affine holds numbers that are no millimetres")


def transforms_disagree(header: Header) -> str | None:
    """NIfTI-1 allows two transforms; readers pick different ones, so a file whose two differ may come out mirrored.

    An sform alone may contradict the voxels' size beside it, which ITK believes (nifti1.h: method 3 needs no pixdim).
    """
    qform_code, sform_code = header.numbers("2h", 252)
    if sform_code <= 0:
        return None
    pixdim, size = header.numbers("8f", 76), header.size
    b, c, d, *offset = header.numbers("6f", 256)
    sform = np.array(header.numbers("12f", 280)).reshape(3, 4)
    if qform_code <= 0:
        return _sizes_disagree(np.linalg.norm(sform[:, :3], axis=0), np.abs(pixdim[1:4]), np.array(size[:3]))
    with np.errstate(all="ignore"):
        qform = np.c_[_rotation(b, c, d) * [pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] < 0 else 1)], offset]
        corners = np.array([[i, j, k, 1] for i in (0, size[0] - 1) for j in (0, size[1] - 1) for k in (0, size[2] - 1)])
        apart = float(np.linalg.norm(corners @ (qform - sform).T, axis=1).max())
    if apart <= _TOLERANCE_MM:
        return None
    return f"its qform and sform put the image up to {apart:.3g} mm apart, so which side is left depends on the reader"


def _sizes_disagree(by_sform: NDArray[np.float64], by_pixdim: NDArray[np.float64], size: NDArray[np.int_]) -> str | None:
    apart = float(np.max(np.abs(by_sform - by_pixdim) * (size - 1)))
    if apart <= _TOLERANCE_MM:
        return None
    return f"its sform and its voxel size make the image differ by {apart:.3g} mm, so how large it is depends on the reader"


def _without_ones(size: Sequence[int]) -> tuple[int, ...]:
    kept = len(size)
    while kept > 3 and size[kept - 1] == 1:
        kept -= 1
    return tuple(size[:kept])


def _rotation(b: float, c: float, d: float) -> NDArray[np.float64]:
    """NIfTI-1 quaternion -> rotation matrix (nifti1.h, method 2)."""
    b, c, d = (np.float64(v) for v in (b, c, d))
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
