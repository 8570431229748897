"""A synthesised volume as a derived MR series: Classic MR Image Storage, one file per slice (PS3.3 A.4, C.7.6, C.8.3.1).

Built up from nothing but an allow-list of the donor's attributes, so that no private or scanner tag can claim an acquisition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from medk2n_cli import __version__
from medk2n_cli.core.fusion import ModelStamp, TargetReport
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume
from medk2n_cli.writing.dicom_donor import Donor, codes, derived_uid, digest, reference
from medk2n_cli.writing.nifti import stored

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
MAKER = "medk2n"
FIRST_SERIES_NUMBER = 9000
_SAME_MM = 0.01


@dataclass(frozen=True, eq=False)
class Derivation:
    """One synthesised volume and everything it came from.

    Attributes:
        target: how it was made.
        volume: on the grid of a source, or on one of its own.
        donors: by source modality; the first lends patient, study and frame of reference.
        moved: mm by source; a source that was not moved shares its slices' places with the result.
        stamp: the weights.
        options: what else could change the result, in words.
        number: SeriesNumber.
    """

    target: TargetReport
    volume: Volume
    donors: Mapping[Modality, Donor]
    moved: Mapping[Modality, float]
    stamp: ModelStamp
    options: str
    number: int

    @property
    def modality(self) -> Modality:
        """The target's."""
        return self.target.modality

    @property
    def used(self) -> dict[Modality, Donor]:
        """The donor of the place first, then every source that the gates let in."""
        entered = {c.source for c in self.target.contributions if c.gate}
        return {m: d for n, (m, d) in enumerate(self.donors.items()) if n == 0 or m in entered}

    @property
    def donor(self) -> Donor:
        """Whose patient, study and frame of reference it keeps."""
        return next(iter(self.donors.values()))


def write_dicom(folder: Path, made: Derivation) -> list[Path]:
    """``dicom/synth_FLAIR/synth_FLAIR_0001.dcm`` and so on below `folder`, from the lowest place along the normal upwards.

    Raises:
        OSError: it cannot be written.
    """
    place = folder / "dicom" / f"synth_{made.modality.value}"
    place.mkdir(parents=True)
    voxels = stored(made.volume).astype(np.uint16)
    common = _common(made, voxels)
    files = []
    for number, k in enumerate(_order(made.volume), start=1):
        image = Dataset()
        image.update(common)
        plane(image, made.volume.grid, k)
        image.InstanceNumber = number
        _origin(image, made, k)
        image.PixelData = np.ascontiguousarray(voxels[:, :, k].T).astype("<u2").tobytes()
        files.append(place / f"synth_{made.modality.value}_{number:04d}.dcm")
        save(image, files[-1], derived_uid(common.SeriesInstanceUID, "slice", str(number)))
    return files


def save(image: Dataset, file: Path, uid: UID) -> None:
    """Explicit VR little endian, with preamble and meta header."""
    image.SOPInstanceUID = uid
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = image.SOPClassUID, uid
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(file, enforce_file_format=True)


def series_uid(made: Derivation, voxels: NDArray[np.uint16]) -> UID:
    """Deterministic in patient, study, target, weights, version, sources, options, number, pixels: never names two contents."""
    return derived_uid(
        *(made.donor.header.to_json(), __version__, str(made.donor.equipment)),
        *(made.donor.header.StudyInstanceUID, made.modality.value, made.stamp.sha256, made.options, str(made.number)),
        *(d.uid for d in made.used.values()),
        digest([voxels.tobytes(), made.volume.grid.affine.tobytes()]),
    )


def _common(made: Derivation, voxels: NDArray[np.uint16]) -> Dataset:
    """What is the same on every slice."""
    image = Dataset()
    image.update(made.donor.header)
    image.SOPClassUID, image.Modality, image.SeriesInstanceUID = UID(MR_IMAGE), "MR", series_uid(made, voxels)
    image.SeriesNumber = made.number
    image.SeriesDescription = f"SYNTH {made.modality.value} (medk2n) NOT FOR DIAGNOSIS"
    image.ImageComments = "SYNTHETIC IMAGE, NOT FOR DIAGNOSIS"
    image.ImageType, image.SyntheticData, image.ContentQualification = ["DERIVED", "SECONDARY", "OTHER"], "YES", "RESEARCH"
    image.ScanningSequence, image.SequenceVariant = "RM", "NONE"
    image.ScanOptions, image.MRAcquisitionType, image.EchoTrainLength = "", "", None
    image.RepetitionTime, image.EchoTime = "0", "0"  # empty is legal, but readers crash on it
    image.PositionReferenceIndicator, image.BurnedInAnnotation = "", "NO"
    if any(d.header.LossyImageCompression == "01" for d in made.used.values()):
        image.LossyImageCompression = "01"
    stamp_maker(image, made.stamp)
    image.ContributingEquipmentSequence = equipment(made)
    image.DerivationDescription = _derivation(made)
    image.DerivationCodeSequence = [codes("113085", "DCM", "Spatial resampling")]
    _pixels(image, voxels)
    return image


def stamp_maker(image: Dataset, stamp: ModelStamp) -> None:
    """The equipment that made the object is medk2n, not the scanner (PS3.3 C.7.5.1)."""
    image.Manufacturer, image.ManufacturerModelName = MAKER, f"Med-K2N {stamp.name}"
    image.DeviceSerialNumber, image.SoftwareVersions = stamp.sha256[:12], __version__


def equipment(made: Derivation) -> list[Dataset]:
    """What made the result, and what acquired its donor (PS3.3 C.12.1, CID 7005)."""
    ours, theirs = Dataset(), Dataset()
    ours.PurposeOfReferenceCodeSequence = [codes("109100", "DCM", "Synthesizing Equipment")]
    stamp_maker(ours, made.stamp)
    theirs.PurposeOfReferenceCodeSequence = [codes("109101", "DCM", "Acquisition Equipment")]
    maker, model, serial, software = made.donor.equipment
    theirs.Manufacturer = maker or "unknown"
    for name, value in (("ManufacturerModelName", model), ("DeviceSerialNumber", serial), ("SoftwareVersions", software)):
        if value:
            setattr(theirs, name, value)
    return [ours, theirs]


def _derivation(made: Derivation) -> str:
    sources = ", ".join(f"{m.value} (series {d.number if d.number is not None else '?'})" for m, d in made.used.items())
    return (
        f"SYNTHETIC {made.modality.value}, not acquired, not for diagnosis. Computed by medk2n {__version__} with weights "
        f"{made.stamp.name} {made.stamp.sha256[:12]} from {sources}. Stored values: {made.target.units}, scale 1."
    )


def _pixels(image: Dataset, voxels: NDArray[np.uint16]) -> None:
    """One window and one range for the whole series, so that scrolling does not flicker."""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    inside = voxels[voxels > 0]
    low, high = np.percentile(inside, (1, 99.5)) if inside.size else (0, 1)
    image.WindowCenter, image.WindowWidth = str(round((low + high) / 2)), str(max(1, round(high - low)))
    image.SmallestImagePixelValue, image.LargestImagePixelValue = int(voxels.min()), int(voxels.max())


def _order(volume: Volume) -> range:
    """Slice indices with growing position along the normal of the image plane."""
    along_row, along_column, step = volume.grid.direction.T
    upwards = float(np.cross(along_row, along_column) @ step) > 0
    slices = volume.grid.shape[2]
    return range(slices) if upwards else range(slices - 1, -1, -1)


def plane(image: Dataset, grid: Grid, k: int) -> None:
    """Where slice `k` of a grid lies (PS3.3 C.7.6.2)."""
    columns, rows, _ = grid.shape
    along_row, along_column = grid.direction[:, 0], grid.direction[:, 1]
    position = grid.to_lps(np.array([0.0, 0.0, float(k)]))
    image.Rows, image.Columns = rows, columns
    image.ImagePositionPatient = _ds(position)
    image.ImageOrientationPatient = _ds((*along_row, *along_column))
    image.PixelSpacing = _ds((grid.spacing[1], grid.spacing[0]))
    image.SliceThickness = image.SpacingBetweenSlices = _ds([grid.spacing[2]])[0]
    image.SliceLocation = _ds([float(np.cross(along_row, along_column) @ position)])[0]


def _ds(values: NDArray[np.float64] | tuple[float, ...] | list[float]) -> list[str]:
    """Decimal strings of at most 16 characters (PS3.5 6.2); what rounding left near zero is zero."""
    return [format_number_as_ds(0.0 if abs(v) < 1e-9 else float(v)) for v in values]


def _origin(image: Dataset, made: Derivation, k: int) -> None:
    """Source images where the slices lie in the same place; every series used is referred to (PS3.3 C.7.6.1, C.12.2)."""
    grid = made.volume.grid
    centre = grid.to_lps(np.array([(grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2, float(k)]))
    sources, series = [], []
    for modality, donor in made.used.items():
        nearest = donor.nearest(centre)
        if nearest is None:
            continue
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = donor.uid, [reference(nearest)]
        series.append(item)
        if donor.grid.same_place(grid):
            source = reference(nearest)
            source.PurposeOfReferenceCodeSequence = [codes("121322", "DCM", "Source image for image processing operation")]
            source.SpatialLocationsPreserved = "YES" if made.moved.get(modality, 0.0) < _SAME_MM else "NO"
            sources.append(source)
    if series:
        image.ReferencedSeriesSequence = series
    if sources:
        image.SourceImageSequence = sources
