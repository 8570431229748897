"""The pixels of one DICOM file, frame by frame, rescaled. A header that claims more than the file holds is found out first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, AllTransferSyntaxes, ImplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.study import Series
from medk2n_cli.reading.dicom_codestream import Frame, check_stream
from medk2n_cli.reading.dicom_file import read_whole
from medk2n_cli.reading.dicom_headers import Slice, read_slices
from medk2n_cli.reading.limits import holds, unreachable
from medk2n_cli.reading.quiet import hushed

FloatArray = NDArray[np.float32]
_PIXELS, _UNDEFINED = pydicom.tag.Tag("PixelData"), 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class _File:
    """An opened file: where it is, its attributes, and its frames' headers."""

    path: Path
    dataset: Dataset
    slices: Sequence[Slice]

    @property
    def number_of_frames(self) -> int:
        return max(1, int(self.slices[0].number("NumberOfFrames") or 1))


def check_size(series: Series) -> None:
    """Whether the files are there and can hold the voxels that their headers claim.

    Raises:
        StudyError: VANISHED, READ_FAILED or TRUNCATED.
    """
    assert series.grid is not None
    try:
        stored = sum(file.stat().st_size for file in dict.fromkeys(series.files))
    except OSError as failure:
        raise unreachable(series, failure) from failure
    if not holds(stored, 2 * int(np.prod(series.grid.shape, dtype=np.int64))):
        shape = " x ".join(str(n) for n in series.grid.shape)
        raise series.unreadable("TRUNCATED", f"its files are too small for {shape} voxels")


def images(series: Series, path: Path, frames: Sequence[int]) -> Iterator[FloatArray]:
    """(rows, columns) of each wanted frame.

    Raises:
        StudyError: VANISHED, READ_FAILED, MISSING_PIXELS, UNSUPPORTED_TRANSFER_SYNTAX, TRUNCATED or BAD_RESCALE.
    """
    file = _opened(series, path)
    syntax = str(file.dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
    if syntax not in AllTransferSyntaxes:
        raise series.unreadable("UNSUPPORTED_TRANSFER_SYNTAX", f"{path.name} names no transfer syntax of images")
    file.dataset.file_meta.TransferSyntaxUID = UID(syntax)
    by_itk = UID(syntax).is_compressed and syntax != RLELossless
    stored = _decoded_by_itk(series, file, frames) if by_itk else _decoded(series, file, frames)
    for frame, image in zip(frames, stored, strict=True):
        yield _rescaled(series, image, file.slices[frame if len(file.slices) > 1 else 0])


def _opened(series: Series, path: Path) -> _File:
    try:
        file = _File(path, read_whole(path), read_slices(path))
        raw = cast("object", file.dataset.get_item(_PIXELS, keep_deferred=True))
        size = path.stat().st_size
    except OSError as failure:
        raise unreachable(series, failure) from failure
    except Exception as failure:  # pydicom raises whatever a broken byte leads it to
        raise series.unreadable("TRUNCATED", f"{path.name} cannot be read ({type(failure).__name__})") from failure
    if not file.slices or not isinstance(raw, RawDataElement) or not raw.length:
        raise series.unreadable("MISSING_PIXELS", f"{path.name} holds no pixels")
    if raw.value is None and raw.length != _UNDEFINED and raw.value_tell + raw.length > size:
        raise series.unreadable("TRUNCATED", f"{path.name} ends before its pixels do")
    return file


def _decoded(series: Series, file: _File, frames: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """Frame by frame from the file where there are many, so that they are never in memory twice."""
    one = _frame(series, file)
    if not holds(file.path.stat().st_size, one.rows * one.columns * one.samples * one.bits // 8):
        raise series.unreadable("TRUNCATED", f"{file.path.name} is too small for {one.rows} x {one.columns} pixels")
    from_file = file.number_of_frames > 1 and isinstance(file.dataset, pydicom.FileDataset)  # no such one where it was deflated
    try:
        yield from iter_pixels(file.path if from_file else file.dataset, indices=list(frames), raw=True)
    except Exception as failure:  # as above: too few bytes, odd bit depths, a damaged fragment
        raise _damaged(series, file, failure) from failure


def _decoded_by_itk(series: Series, file: _File, frames: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """JPEG, JPEG-LS, JPEG 2000. ITK gets a file of ours for each frame, made of what was checked."""
    said, syntax = _frame(series, file), file.dataset.file_meta.TransferSyntaxUID
    try:
        streams = list(generate_frames(file.dataset.PixelData, number_of_frames=file.number_of_frames))
        for frame in frames:
            check_stream(streams[frame], said)
            if not holds(len(streams[frame]), said.rows * said.columns * said.bits // 8):
                raise ValueError("too little data")
    except Exception as failure:  # pydicom's, for damaged fragments
        raise _damaged(series, file, failure) from failure
    with tempfile.TemporaryDirectory(prefix="medk2n-") as folder:
        for frame in frames:
            try:
                single = _single(Path(folder) / "frame.dcm", file, said, streams[frame])
                with hushed():
                    image = sitk.ReadImage(str(single), imageIO="GDCMImageIO")
                array = sitk.GetArrayFromImage(image).reshape(said.rows, said.columns)
            except OSError as failure:
                raise unreachable(series, failure) from failure
            except (RuntimeError, ValueError) as failure:
                raise series.unreadable("UNSUPPORTED_TRANSFER_SYNTAX", f"its pixels are compressed as {syntax.name}") from failure
            yield array


def _frame(series: Series, file: _File) -> Frame:
    """What the header says of every frame."""
    one = file.slices[0]
    (rows, columns), bits, samples = one.shape, one.number("BitsAllocated"), one.number("SamplesPerPixel")
    if bits not in (1, 8, 16, 32, 64) or samples not in (None, 1):
        raise series.unreadable("TRUNCATED", f"{file.path.name} has pixels of {bits or 0:g} bits and {samples or 0:g} samples")
    return Frame(rows, columns, int(bits))


def _single(place: Path, file: _File, said: Frame, stream: bytes) -> Path:
    one, ds = file.slices[0], Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = said.rows, said.columns, 1, "MONOCHROME2"
    stored = int(one.number("BitsStored") or said.bits)
    ds.BitsAllocated, ds.BitsStored = said.bits, stored if 0 < stored <= said.bits else said.bits
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(one.number("PixelRepresentation") == 1)
    ds.PixelData = encapsulate([stream], has_bot=False)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = file.dataset.file_meta.TransferSyntaxUID
    ds.save_as(place, enforce_file_format=True)
    return place


def _rescaled(series: Series, image: NDArray[np.generic], one: Slice) -> FloatArray:
    slope, intercept = (_scale(series, one, name) for name in ("RescaleSlope", "RescaleIntercept"))
    scale = 1.0 if slope is None or slope == 0 else slope
    return np.asarray(image.astype(np.float32) * np.float32(scale) + np.float32(intercept or 0.0), dtype=np.float32)


def _scale(series: Series, one: Slice, name: str) -> float | None:
    number = one.number(name)
    if number is None and one.value(name) not in (None, "") and one.value(name) != []:
        raise series.unreadable("BAD_RESCALE", f"its {name} is no number")
    return number


def _damaged(series: Series, file: _File, failure: Exception) -> StudyError:
    """Without the library's words: they cite values, which may be names."""
    return series.unreadable("TRUNCATED", f"the pixels of {file.path.name} are cut short or damaged ({type(failure).__name__})")
