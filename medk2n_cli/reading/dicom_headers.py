"""DICOM files by content -> one record per slice, classic or enhanced. Headers only (PS3.3 C.7.6.2, C.7.6.16, C.8.3.1)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medk2n_cli.reading.dicom_file import read_header
from medk2n_cli.reading.quiet import unwarned

MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "classic",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced",
    "1.2.840.10008.5.1.4.1.1.4.4": "enhanced",  # legacy converted
}
_DICOMDIR = "1.2.840.10008.1.3.10"
_FARTHEST = 1e5  # no position, spacing or direction is a larger number: 100 m
_MOST_ROWS = 65535  # a 16-bit number
_LONGEST = 1024  # characters of a text; the standard's longest that is used here has 64
_BROKEN = b"?"  # the value of an attribute that cannot be understood: there, but neither text nor number
_TAGS = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "AccessionNumber",
    ),
    *("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "InstanceNumber"),
    *("ImageType", "SyntheticData", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt"),
    *("ScanningSequence", "SequenceVariant", "MRAcquisitionType", "RepetitionTime", "EchoTime", "InversionTime", "FlipAngle"),
    *("EchoNumbers", "DiffusionBValue", "TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionContrast"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "EchoPulseSequence", "EchoPlanarPulseSequence"),
    *("InversionRecovery", "InversionTimes", "EffectiveEchoTime"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "RescaleSlope", "RescaleIntercept"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "SpecificCharacterSet"),
)


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of one file, known from the header.

    Attributes:
        file: where it is stored.
        frame: number of the frame within the file, 0 for classic images.
        header: the file's header, without pixels.
        position: (3,) centre of the first pixel in LPS mm, or None.
        rows, columns: (3,) unit vectors along which the column and the row index grow, or None.
        spacing: mm between rows and between columns, or None.
    """

    file: Path
    frame: int
    header: Dataset
    groups: tuple[Dataset, ...]
    position: NDArray[np.float64] | None
    along_row: NDArray[np.float64] | None
    along_column: NDArray[np.float64] | None
    spacing: tuple[float, float] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, 0 where the header does not say."""
        rows, columns = (int(self.number(name) or 0) for name in ("Rows", "Columns"))
        return (rows, columns) if min(rows, columns) > 0 and max(rows, columns) <= _MOST_ROWS else (0, 0)

    def text(self, name: str) -> str:
        """An attribute as text, empty where it is missing or empty; several values joined by a backslash."""
        value = self.value(name)
        if value is None or isinstance(value, bytes | Items):
            return ""
        several = isinstance(value, Sequence) and not isinstance(value, str)
        text = "\\".join(str(v) for v in cast(Sequence[object], value)) if several else str(value)
        return text[:_LONGEST].strip()

    def number(self, name: str) -> float | None:
        """An attribute as a number, None where it is missing, empty or no finite number; the first of several."""
        value = self.value(name)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            value = value[0] if value else None
        try:
            number = None if value is None or value == "" else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
        return number if number is not None and math.isfinite(number) else None

    def value(self, name: str) -> object:
        """An attribute of the frame, or of the file where the frame has none of its own."""
        for group in self.groups:
            if name in group:
                return group[name].value
        return self.header[name].value if name in self.header else None


def is_dicom(file: Path) -> bool:
    """By content: the prefix DICM after a preamble, or a plausible first element without one.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        start = stream.read(132)
    if start[128:132] == b"DICM":
        return True
    group, element = (int.from_bytes(start[n : n + 2], "little") for n in (0, 2))
    return len(start) == 132 and group in (2, 8) and element in (0, 1, 2, 5, 8, 0x12, 0x16, 0x18)


def read_slices(file: Path, further: Collection[str] = ()) -> list[Slice]:
    """All images of one file; empty for a DICOMDIR. `further`: keywords to read beside the usual ones.

    Raises:
        ValueError: it cannot be read as DICOM.
    """
    try:
        header = read_header(file, [*_TAGS, *further])
        with unwarned():
            if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == _DICOMDIR:
                return []
            found = list(_slices(file, header))
    except Exception as failure:  # pydicom raises whatever a broken byte leads it to
        raise ValueError(f"not readable as DICOM ({type(failure).__name__})") from failure
    if not len(header):
        raise ValueError("it holds no attribute")
    return found


def _slices(file: Path, header: Dataset) -> Iterator[Slice]:
    """One record per frame of a read file."""
    _settle(header)
    shared = _items(header, "SharedFunctionalGroupsSequence")
    frames = _items(header, "PerFrameFunctionalGroupsSequence") or [Dataset()]
    common = tuple(_flat(*shared))
    for number, frame in enumerate(frames):
        yield _slice(file, number, header, (*_flat(frame), *common))


def _settle(dataset: Dataset) -> None:
    """Decode every attribute now, while what is wrong with it can be caught."""
    for tag in list(dataset.keys()):
        try:
            value = dataset[tag].value
            str(value) if dataset[tag].VR == "PN" else None  # a name is decoded when it is written
        except Exception as failure:  # a broken byte leads pydicom anywhere
            if isinstance(failure, MemoryError):
                raise
            dataset[tag] = DataElement(tag, "UN", _BROKEN)


def _items(dataset: Dataset, name: str) -> list[Dataset]:
    value = dataset[name].value if name in dataset else None
    return (
        [i for i in value if isinstance(i, Dataset)] if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []
    )


def _flat(*items: Dataset) -> Iterator[Dataset]:
    """The single items of all functional groups, the frame's own before the shared ones."""
    for item in items:
        _settle(item)
        for element in item:
            if element.VR == "SQ" and element.value:
                _settle(element.value[0])
                yield element.value[0]


def _slice(file: Path, number: int, header: Dataset, groups: tuple[Dataset, ...]) -> Slice:
    bare = Slice(file, number, header, groups, None, None, None, None)
    position, orientation, spacing = (
        _floats(bare.value(name), count)
        for name, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    )
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return bare
    along_row, along_column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if min(lengths) < 0.5 or abs(along_row @ along_column) > 0.01:
        return bare
    unit = along_row / lengths[0], along_column / lengths[1]
    return Slice(file, number, header, groups, position, *unit, (float(spacing[0]), float(spacing[1])))


def _floats(value: object, count: int) -> NDArray[np.float64] | None:
    try:
        found = np.array([float(v) for v in value], np.float64)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.shape == (count,) and (np.abs(found) < _FARTHEST).all() else None
