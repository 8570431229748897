"""DICOM studies of the formula head, as scanners write them: what the tests read, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from tests import phantom

# What a scanner writes for each contrast: TR, TE, TI ms, ScanningSequence, SeriesDescription.
PROTOCOLS: dict[Modality, tuple[float, float, float | None, str, str]] = {
    Modality.T1: (500, 9, None, "SE", "AX T1"),
    Modality.T1C: (500, 9, None, "SE", "AX T1 +C"),
    Modality.T2: (4500, 98, None, "SE", "AX T2 TSE"),
    Modality.FLAIR: (9000, 120, 2500, "SE\\IR", "AX T2 FLAIR"),
}
MR = "1.2.840.10008.5.1.4.1.1.4"


def header(modality: Modality, study: str, number: int) -> Dataset:
    """Everything but geometry and pixels."""
    tr, te, ti, sequence, description = PROTOCOLS[modality]
    ds = Dataset()
    ds.SOPClassUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = MR, study, generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality = "Doe^Jane", "P-123", "MR"
    ds.SeriesNumber, ds.SeriesDescription, ds.ImageType = number, description, ["ORIGINAL", "PRIMARY", "M"]
    ds.ScanningSequence, ds.RepetitionTime, ds.EchoTime = sequence.split("\\"), tr, te
    if ti:
        ds.InversionTime = ti
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[study])
    return ds


def write_series(
    folder: Path, array: NDArray[np.generic], grid: Grid, base: Dataset, order: list[int] | None = None
) -> list[Path]:
    """One file per slice of [i, j, k], named without extension in `order`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place, k in enumerate(order or range(grid.shape[2])):
        ds = Dataset()
        ds.update(base)
        ds.file_meta = FileMetaDataset()
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = base.SOPClassUID, ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.ImagePositionPatient = [f"{v:.8g}" for v in grid.to_lps(np.array([0.0, 0.0, float(k)]))]
        ds.ImageOrientationPatient = [f"{v:.8g}" for v in (*grid.direction[:, 0], *grid.direction[:, 1])]
        ds.PixelSpacing, ds.SliceThickness = [grid.spacing[1], grid.spacing[0]], grid.spacing[2]
        ds.InstanceNumber, ds.Rows, ds.Columns = place + 1, grid.shape[1], grid.shape[0]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.PixelData = np.ascontiguousarray(array[:, :, k].T.astype(np.uint16)).tobytes()
        files.append(folder / f"IM{place:04d}_{base.SeriesNumber}")
        ds.save_as(files[-1], enforce_file_format=True)
    return files


def write_study(folder: Path, modalities: tuple[Modality, ...], grid: Grid | None = None, study: str | None = None) -> Path:
    """A study of the formula head, slices in scrambled order, one folder for all series."""
    grid, uid = grid or phantom.axial(), study or generate_uid()
    order = np.random.default_rng(0).permutation(grid.shape[2]).tolist()
    for number, modality in enumerate(modalities, start=3):
        write_series(folder, phantom.volume(modality, grid), grid, header(modality, uid, number), order)
    return folder


def write_enhanced(file: Path, array: NDArray[np.generic], grid: Grid, base: Dataset) -> Path:
    """One enhanced object with a frame per slice; timing is left out, as in many re-encoded exports."""
    ds = Dataset()
    for name in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber"):
        ds[name] = base[name]
    ds.SeriesDescription, ds.ImageType, ds.FrameOfReferenceUID = base.SeriesDescription, base.ImageType, base.FrameOfReferenceUID
    ds.SOPClassUID, ds.SOPInstanceUID, ds.NumberOfFrames = UID("1.2.840.10008.5.1.4.1.1.4.1"), generate_uid(), grid.shape[2]
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [f"{v:.8g}" for v in (*grid.direction[:, 0], *grid.direction[:, 1])]
    measures.PixelSpacing, measures.SliceThickness = [grid.spacing[1], grid.spacing[0]], grid.spacing[2]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], []
    for k in range(grid.shape[2]):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [f"{v:.8g}" for v in grid.to_lps(np.array([0.0, 0.0, float(k)]))]
        frame.PlanePositionSequence = [place]
        ds.PerFrameFunctionalGroupsSequence.append(frame)
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = grid.shape[1], grid.shape[0], 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = np.ascontiguousarray(array.astype(np.uint16).transpose(2, 1, 0)).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(file, enforce_file_format=True)
    return file
