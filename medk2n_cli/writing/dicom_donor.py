"""What an acquired DICOM series lends to the series derived from it: an allow-list, cleaned, so that nothing else leaks.

Patient and study modules (PS3.3 C.7.1, C.7.2), frame of reference (C.7.4.1), and the UIDs to refer back to.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds, validate_value

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.quiet import warnings_as
from medk2n_cli.core.study import Series

# Type 2 attributes are written empty where the donor has nothing valid, the others are left out.
_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyID", "PatientPosition"),
)
_TYPE_3 = (
    *("IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight", "StudyDescription"),
    *("AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC", "PatientIdentityRemoved", "DeidentificationMethod"),
)
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_LOSSY_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91))  # JPEG, JPEG-LS near-lossless, JPEG 2000
_SEQUENCES = ("DeidentificationMethodCodeSequence",)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID")
_EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
_READ = (
    *_TYPE_2,
    *_TYPE_3,
    *_LOSSY,
    *_SEQUENCES,
    *_UIDS,
    "SpecificCharacterSet",
    "AcquisitionDateTime",
    "BodyPartExamined",
    *_EQUIPMENT,
)
_ENUMERATED = {
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "PatientPosition": ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"),
}
_HEADS = ("HEAD", "BRAIN", "SKULL")
_FREE_TEXT = {"StudyDescription": 64, "DeidentificationMethod": 64}  # what is longer is cut; an identifier never is
_IDENTITY = ("PatientID", "PatientName")


@dataclass(frozen=True, eq=False)
class Instance:
    """One acquired slice to refer back to: its SOP UIDs, and its frame number (from 1) in an enhanced image."""

    sop_class: str
    sop_instance: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class Donor:
    """An acquired series as a derived one refers to it.

    Attributes:
        header: cleaned patient, study, frame of reference and acquisition attributes.
        uid: SeriesInstanceUID.
        number: SeriesNumber, or None.
        grid: where its slices lie; `instances` are in order along k.
        equipment: (manufacturer, model, serial number, software) as acquired, each may be empty.
        altered: an identifier of the patient that cannot be written as it stands, or empty.
    """

    header: Dataset
    uid: str
    number: int | None
    grid: Grid
    instances: tuple[Instance, ...]
    equipment: tuple[str, str, str, str]
    altered: str = ""

    def nearest(self, place: NDArray[np.float64]) -> Instance | None:
        """The acquired slice nearest to a point, (3,) LPS mm; None where none may be named."""
        if not self.instances:
            return None
        k = round(float(self.grid.to_index(place)[2]))
        return self.instances[min(max(k, 0), len(self.instances) - 1)]


def derived_uid(*entropy: str) -> UID:
    """The same UID for the same words, below the UUID root 2.25 that needs no registration (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(entropy)).int}")


def read_donor(series: Series) -> Donor:
    """Headers only.

    Raises:
        OutputError: STUDY_UID where the series names no study that a PACS would file a result under.
    """
    assert series.grid is not None
    files = list(dict.fromkeys(series.files))
    headers = {f: pydicom.dcmread(f, stop_before_pixels=True, force=True, specific_tags=list(_READ)) for f in files}
    made = tuple(
        Instance(
            _text(headers[f], "SOPClassUID"),
            _text(headers[f], "SOPInstanceUID"),
            frame + 1 if "Enhanced" in UID(_text(headers[f], "SOPClassUID")).name else None,
        )
        for f, frame in zip(series.files, series.frames, strict=True)
    )
    header = headers[files[0]]
    maker, model, serial, software = (_cleaned(header, name) or "" for name in _EQUIPMENT)
    uid = _text(header, "SeriesInstanceUID") or derived_uid(series.study, *(i.sop_instance for i in made))
    altered = next((n for n in _IDENTITY if _raw(header, n) and _raw(header, n) != (_cleaned(header, n) or "")), "")
    kept = readable(_header(series, header), (maker, model, serial, software))
    return Donor(kept, uid, series.number, series.grid, made, (maker, model, serial, software), altered)


def _header(series: Series, header: Dataset) -> Dataset:
    kept = Dataset()
    if charset := header.get("SpecificCharacterSet"):
        kept.SpecificCharacterSet = charset
    for name in _TYPE_2:
        setattr(kept, name, _cleaned(header, name) or "")
    for name in _TYPE_3:
        if value := _cleaned(header, name):
            setattr(kept, name, value)
    for name in _SEQUENCES:
        if name in header and header[name].value:
            kept[name] = header[name]
    _when(kept, header)
    part = _text(header, "BodyPartExamined").upper()
    kept.BodyPartExamined = part if part in _HEADS else "HEAD"  # without it a laterality would be asked for (C.7.3.1)
    _study(kept, series)
    frame = _cleaned(header, "FrameOfReferenceUID")
    kept.FrameOfReferenceUID = frame or derived_uid("frame of reference", series.study, _text(header, "SeriesInstanceUID"))
    kept.LossyImageCompression = "01" if _lossy(header) else "00"
    if kept.LossyImageCompression == "01":
        for name in _LOSSY[1:]:
            if name in header:
                kept[name] = header[name]
    return kept


def _when(kept: Dataset, header: Dataset) -> None:
    """Enhanced images say date and time of acquisition in one attribute."""
    both = _cleaned(header, "AcquisitionDateTime") or ""
    if len(both) >= 14 and "AcquisitionDate" not in kept:
        kept.AcquisitionDate, kept.AcquisitionTime = both[:8], both[8:14]


def _study(kept: Dataset, series: Series) -> None:
    """The study's UID as it stands, even one the standard would refuse: the result belongs to that study."""
    if not series.study or len(series.study) > 64:
        raise OutputError(
            f"Series {series.label} does not say which study it belongs to, so no DICOM series can join it.",
            next_step="Write NIfTI instead: --format nifti.",
            code="STUDY_UID",
        )
    with config.disable_value_validation():
        kept.StudyInstanceUID = series.study


def _lossy(header: Dataset) -> bool:
    syntax = str(header.file_meta.get("TransferSyntaxUID", "")) if hasattr(header, "file_meta") else ""
    return _text(header, "LossyImageCompression") == "01" or syntax in _LOSSY_SYNTAXES


def readable(kept: Dataset, also: Iterable[str] = ()) -> Dataset:
    """With a character set that holds every text, `also` those: the donor's own where it does, else UTF-8."""
    texts = [*(str(e.value) for e in kept if e.VR in ("PN", "LO", "SH", "ST", "LT", "UT")), *also]
    charset = kept.get("SpecificCharacterSet")
    if not isinstance(charset, str) or charset not in pydicom.charset.python_encoding or not _encodes(texts, charset):
        kept.SpecificCharacterSet = "ISO_IR 192"  # several sets with escapes between them as well: one that holds all is safer
        if all(t.isascii() for t in texts):
            del kept.SpecificCharacterSet
    return kept


def _encodes(texts: Iterable[str], charset: str) -> bool:
    with warnings_as("error"):
        try:
            encodings = pydicom.charset.convert_encodings([charset])
            return all(_survives(text, encodings) for text in texts)
        except (UserWarning, UnicodeError, LookupError, ValueError):
            return False


def _survives(text: str, encodings: list[str]) -> bool:
    return pydicom.charset.decode_bytes(pydicom.charset.encode_string(text, encodings), encodings, set()) == text


def _cleaned(header: Dataset, name: str) -> str | None:
    """An attribute as the standard wants it, or None: headers lie about VR, length and alphabet."""
    text = _text(header, name)
    vr = dictionary_VR(name)
    if not text:
        return None
    try:
        if vr == "DS":
            return format_number_as_ds(float(text))
        text = text[: _FREE_TEXT.get(name, len(text))].strip()
        validate_value(vr, text, config.RAISE)
    except (ValueError, OverflowError):
        return None
    return text if text in _ENUMERATED.get(name, (text,)) else None


def _raw(header: Dataset, name: str) -> str:
    """An attribute as it stands, several values and all."""
    with warnings_as("ignore"):
        try:
            value = header[name].value
        except Exception:  # noqa: BLE001 - as in _text
            return ""
    several = isinstance(value, Iterable) and not isinstance(value, str | pydicom.valuerep.PersonName | bytes)
    return "\\".join(str(v) for v in value) if several else str(value or "").strip()


def _text(header: Dataset, name: str) -> str:
    with warnings_as("ignore"):  # whatever is wrong with a value shows when it is checked
        try:
            value = header[name].value
        except Exception:  # noqa: BLE001 - absent, or so damaged that pydicom cannot convert it
            return ""
    if value is None:
        return ""
    if not isinstance(value, str | pydicom.valuerep.PersonName | int | float) and isinstance(value, Iterable):
        value = next(iter(value), "")
    return "".join(c for c in str(value) if c.isprintable()).strip()


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of all parts in order."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def codes(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def reference(instance: Instance) -> Dataset:
    """One item that refers to an acquired slice (PS3.3 10.8)."""
    item = Dataset()
    with config.disable_value_validation():
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class, instance.sop_instance
    if instance.frame is not None:
        item.ReferencedFrameNumber = instance.frame
    return item
