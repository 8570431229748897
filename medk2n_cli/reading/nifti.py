"""NIfTI files: headers for `scan`, voxels for `load`, and refusals that name the file."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.study import Series
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading.limits import grid_problem, holds, unreachable
from medk2n_cli.reading.nifti_header import Header, opened, read_header, transforms_disagree
from medk2n_cli.reading.person import subject_and_session
from medk2n_cli.reading.quiet import hushed
from medk2n_cli.reading.recognise import recognise

SUFFIXES = (".nii.gz", ".nii")
NO_ORIENTATION = "its header says nothing of orientation, so left and right are a guess"
_MARK = b"synthetic by medk2n"
_CUT = "it ends too early or is damaged"
_PIECE = 2**24  # bytes looked at together
_SIDECAR = 2**20  # bytes; a BIDS sidecar has a few thousand


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
    patient, session = subject_and_session(label)
    series = Series(label, (file,), None, answer.modality, answer.evidence, patient=patient, session=session)
    try:
        header = read_header(file)
        if len(header.size) != 3 or min(header.size) < 2:
            return series.refused("NOT_3D", f"not a 3-D volume ({' x '.join(str(n) for n in header.size)})")
        grid = _grid(file)
    except (RuntimeError, OSError, EOFError, ValueError, zlib.error) as failure:
        return series.refused(*_why_unreadable(failure))
    if isinstance(grid, tuple):
        return series.refused(*grid)
    series = replace(series, grid=grid)
    if header.numbers("2h", 252) == (0, 0):
        return series.refused("NO_ORIENTATION", NO_ORIENTATION)
    if (problem := transforms_disagree(header)) is not None:
        return series.refused("TRANSFORMS_DISAGREE", problem)
    if _MARK in header.raw[148:228].lower():
        return series.refused("SYNTHETIC", "a synthetic image, by its header")
    if answer.modality is None:
        return series.refused(answer.code, answer.evidence)
    return series


def says_synthetic(file: Path) -> bool:
    """Whether the header's description field carries our mark.

    Raises:
        OSError, EOFError, ValueError: it cannot be read.
    """
    return _MARK in read_header(file).raw[148:228].lower()


def load_volume(series: Series) -> Volume:
    """Voxels of a series.

    Raises:
        StudyError: VANISHED, READ_FAILED, NOT_AN_IMAGE, TRUNCATED, NAN_VOXELS or EMPTY_VOLUME.
    """
    file = series.files[0]
    _check_body(series, file)
    try:
        with hushed(), itk.readable_path(file) as path:
            image = sitk.ReadImage(path, sitk.sitkFloat32, imageIO="NiftiImageIO")
        if image.GetDimension() == 4:
            image = image[:, :, :, 0]
        array, grid = itk.to_array(image), itk.grid_of(image)
    except (RuntimeError, ValueError) as failure:
        code, reason = _why_unreadable(failure)
        raise series.unreadable(code, reason) from failure
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise series.unreadable("NAN_VOXELS", "its values leave the range of 32-bit numbers")
    if low == high:
        raise series.unreadable("EMPTY_VOLUME", f"every voxel is {low:g}")
    return Volume(array, grid)


def _check_body(series: Series, file: Path) -> None:
    """ITK reads a truncated file without a word and turns NaN into 0, so both are looked for in the bytes themselves."""
    try:
        header = read_header(file)
        stored, packed = file.stat().st_size, file.name.lower().endswith(".gz")
        if header.end > stored and not (packed and holds(stored, header.end)):
            raise EOFError(f"it has {stored} bytes, too few for an image of {header.end}")
        with opened(file) as stream:
            problem = _body_problem(stream, header)
    except gzip.BadGzipFile as failure:
        raise series.unreadable("TRUNCATED", _CUT) from failure
    except OSError as failure:
        raise unreachable(series, failure) from failure
    except (EOFError, zlib.error) as failure:
        raise series.unreadable("TRUNCATED", str(failure) if str(failure).startswith("it ") else _CUT) from failure
    except ValueError as failure:
        raise series.unreadable("NOT_AN_IMAGE", str(failure)) from failure
    if problem is not None:
        raise series.unreadable(*problem)


def _body_problem(stream: BinaryIO, header: Header) -> tuple[str, str] | None:
    """Piece by piece, so that the voxels are not in memory here and in ITK at once."""
    read, bad = len(stream.read(header.start)), 0
    while read < header.end and (piece := stream.read(min(_PIECE, header.end - read))):
        read += len(piece)
        if header.float_type and len(piece) % header.voxel_bytes == 0:
            bad += int((~np.isfinite(np.frombuffer(piece, header.float_type))).sum())
    if read < header.end:
        return "TRUNCATED", f"it ends after {read} of {header.end} bytes"
    if bad:
        return "NAN_VOXELS", f"{bad} voxels are not finite numbers"
    if len(stream.read(_PIECE)) == _PIECE:  # to its end otherwise, where gzip keeps the checksum
        return "NOT_AN_IMAGE", f"more than {_PIECE >> 20} MB follow after its voxels"
    return None


def _why_unreadable(failure: BaseException) -> tuple[str, str]:
    text = str(failure)
    if "orthonormal" in text or "determinant" in text.lower() or "affine" in text:
        return "BAD_AFFINE", "its affine is not invertible or not a rotation with voxel sizes"
    if isinstance(failure, ValueError):
        return "NOT_AN_IMAGE", text
    return "NOT_AN_IMAGE", "not a readable NIfTI image (truncated, or something else by this name)"


def _grid(file: Path) -> Grid | tuple[str, str]:
    """The grid of the first three axes as ITK understands the header; or why there is none, as (code, reason).

    Raises:
        RuntimeError, ValueError: ITK cannot make it out, or it cannot be inverted.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with hushed(), itk.readable_path(file) as path:
        reader.SetFileName(path)
        reader.ReadImageInformation()
    n, size = reader.GetDimension(), reader.GetSize()[:3]
    if n not in (3, 4) or reader.GetNumberOfComponents() != 1:
        return "NOT_3D", "not a 3-D volume of numbers"
    direction, spacing = np.array(reader.GetDirection()).reshape(n, n)[:3, :3], np.array(reader.GetSpacing()[:3])
    if (problem := grid_problem(size, spacing)) is not None:
        return problem
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = reader.GetOrigin()[:3]
    return Grid((size[0], size[1], size[2]), affine)


def _sidecar(file: Path) -> dict[str, object] | None:
    path = file.with_name(stem(file) + ".json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and path.stat().st_size < _SIDECAR else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
