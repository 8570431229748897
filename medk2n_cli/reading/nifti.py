"""NIfTI files: headers for `scan`, voxels for `load`, and refusals that name the file."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.study import Series
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading.recognise import recognise

SUFFIXES = (".nii.gz", ".nii")
NO_ORIENTATION = "its header says nothing of orientation, so left and right are a guess"
_FLOATS = {16: "f4", 64: "f8"}  # NIfTI-1 datatype codes
_MARK = b"synthetic by medk2n"
_TOLERANCE_MM = 1.0  # how far apart the two transforms of a header may put a corner


def is_nifti(file: Path) -> bool:
    """By its name; what it holds is checked when its header is read."""
    return file.name.lower().endswith(SUFFIXES) and not file.name.startswith(".")


def stem(file: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    return next((file.name[: -len(s)] for s in SUFFIXES if file.name.lower().endswith(s)), file.name)


def read_series(file: Path, label: str) -> Series:
    """Header, sidecar and name of one file -> Series; a file that cannot be used says why and is never raised."""
    sidecar = _sidecar(file)
    answer = recognise(stem(file), sidecar)
    if sidecar and sidecar.get("synthetic") is True:
        return Series(label, (file,), None).refused("SYNTHETIC", "a synthetic image, by its sidecar")
    series = Series(label, (file,), None, answer.modality, answer.evidence)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("NiftiImageIO")
    try:
        reader.ReadImageInformation()
        header = _header(file)
    except (RuntimeError, OSError, EOFError, ValueError, zlib.error, struct.error) as failure:
        return series.refused(*_why_unreadable(failure))
    size = list(reader.GetSize())
    if reader.GetDimension() == 4 and size[3] == 1:
        size = size[:3]
    if len(size) != 3 or min(size) < 2 or reader.GetNumberOfComponents() != 1:
        shape = " x ".join(str(n) for n in reader.GetSize())
        return series.refused("NOT_3D", f"not a 3-D volume ({shape})")
    try:
        series = replace(series, grid=_grid(reader, size))
    except ValueError as failure:
        return series.refused("BAD_AFFINE", str(failure))
    if struct.unpack(_byte_order(header) + "2h", header[252:256]) == (0, 0):
        return series.refused("NO_ORIENTATION", NO_ORIENTATION)
    if (problem := _transforms_disagree(header, size)) is not None:
        return series.refused("TRANSFORMS_DISAGREE", problem)
    if _MARK in header[148:228].lower():
        return series.refused("SYNTHETIC", "a synthetic image, by its header")
    if answer.modality is None:
        return series.refused(answer.code, answer.evidence)
    return series


def says_synthetic(file: Path) -> bool:
    """Whether the header's description field carries our mark.

    Raises:
        OSError, EOFError, ValueError: it cannot be read.
    """
    return _MARK in _header(file)[148:228].lower()


def load_volume(series: Series) -> Volume:
    """Voxels of a series.

    Raises:
        StudyError: the file is truncated, holds NaN, or is empty.
    """
    file = series.files[0]
    _check_body(series, file)
    try:
        image = sitk.ReadImage(str(file), sitk.sitkFloat32, imageIO="NiftiImageIO")
    except RuntimeError as failure:
        code, reason = _why_unreadable(failure)
        raise series.unreadable(code, reason) from failure
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    array = itk.to_array(image)
    if not np.isfinite(array).all():
        raise series.unreadable("NAN_VOXELS", "its values leave the range of 32-bit numbers")
    if array.min() == array.max():
        raise series.unreadable("EMPTY_VOLUME", f"every voxel is {array.min():g}")
    return Volume(array, itk.grid_of(image))


def _check_body(series: Series, file: Path) -> None:
    """ITK reads a truncated file without a word and turns NaN into 0, so both are looked for in the bytes themselves."""
    try:
        with _opened(file) as stream:
            raw = stream.read()
    except (OSError, EOFError, zlib.error) as failure:
        raise series.unreadable("TRUNCATED", "it ends too early or is damaged") from failure
    try:
        order = _byte_order(raw)
        dim = struct.unpack(order + "8h", raw[40:56])
        datatype, bits = struct.unpack(order + "2h", raw[70:74])
        start, count = int(struct.unpack(order + "f", raw[108:112])[0]), int(np.prod(dim[1 : dim[0] + 1], dtype=np.int64))
    except (struct.error, ValueError, OverflowError) as failure:
        raise series.unreadable("NOT_AN_IMAGE", "its header is damaged") from failure
    if len(raw) < start + count * bits // 8:
        raise series.unreadable("TRUNCATED", f"it ends after {len(raw)} of {start + count * bits // 8} bytes")
    if datatype in _FLOATS:
        bad = int((~np.isfinite(np.frombuffer(raw, order + _FLOATS[datatype], count, start))).sum())
        if bad:
            raise series.unreadable("NAN_VOXELS", f"{bad} voxels are not finite numbers")


def _opened(file: Path) -> BinaryIO:
    """The file's bytes, decompressed where its name ends in .gz."""
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


def _byte_order(header: bytes) -> str:
    return "<" if struct.unpack("<i", header[:4])[0] == 348 else ">"


def _why_unreadable(failure: BaseException) -> tuple[str, str]:
    text = str(failure)
    if "orthonormal" in text or "determinant" in text.lower():
        return "BAD_AFFINE", "its affine is not invertible or not a rotation with voxel sizes"
    return "NOT_AN_IMAGE", "not a readable NIfTI image (truncated, or something else by this name)"


def _grid(reader: sitk.ImageFileReader, size: list[int]) -> Grid:
    """The grid of the first three axes, from the header alone."""
    n = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    return Grid((size[0], size[1], size[2]), affine)


def _sidecar(file: Path) -> dict[str, object] | None:
    path = file.with_name(stem(file) + ".json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _header(file: Path) -> bytes:
    """The first 348 bytes."""
    with _opened(file) as stream:
        header = stream.read(348)
    if len(header) < 348:
        raise EOFError("header cut short")
    return header


def _transforms_disagree(header: bytes, size: list[int]) -> str | None:
    """NIfTI-1 allows two transforms; readers pick different ones, so a file whose two differ may come out mirrored."""
    order = _byte_order(header)
    qform_code, sform_code = struct.unpack(order + "2h", header[252:256])
    if qform_code <= 0 or sform_code <= 0:
        return None
    pixdim = struct.unpack(order + "8f", header[76:108])
    b, c, d, *offset = struct.unpack(order + "6f", header[256:280])
    sform = np.array(struct.unpack(order + "12f", header[280:328])).reshape(3, 4)
    qform = np.c_[_rotation(b, c, d) * [pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] < 0 else 1)], offset]
    corners = np.array([[i, j, k, 1] for i in (0, size[0] - 1) for j in (0, size[1] - 1) for k in (0, size[2] - 1)])
    apart = float(np.linalg.norm(corners @ (qform - sform).T, axis=1).max())
    if apart <= _TOLERANCE_MM:
        return None
    return f"its qform and sform put the image up to {apart:.0f} mm apart, so which side is left depends on the reader"


def _rotation(b: float, c: float, d: float) -> NDArray[np.float64]:
    """NIfTI-1 quaternion -> rotation matrix (nifti1.h, method 2)."""
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
