"""The report for machines: a Comprehensive 3D SR after TID 1500 (PS3.16), one measurement group per target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pydicom
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from medk2n_cli import __version__
from medk2n_cli.core.fusion import Contribution
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.quiet import warnings_as
from medk2n_cli.writing.dicom import MAKER, MR_IMAGE, Derivation, plane, save
from medk2n_cli.writing.dicom_donor import Donor, derived_uid, digest

SR_NUMBER = 9099
_SCHEME = "99MEDK2N"
_RATIO = CodedConcept("1", "UCUM", "no units")


def write_sr(folder: Path, made: Sequence[Derivation], images: Sequence[Sequence[Path]]) -> Path:
    """``dicom/synth_report.dcm``: per target quality, expected error, and per source weight, threshold, gate and share.

    Args:
        made: the derivations, at least one.
        images: the files that `write_dicom` wrote of each.
    """
    written = [[pydicom.dcmread(f, stop_before_pixels=True) for f in files] for files in images]
    library = [image for modality, donor in _sources(made).items() for image in _acquired(modality, donor)]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_device(made[0])),
        procedure_reported=codes.cid100.MRIUnspecifiedBodyRegion,
        imaging_measurements=[_group(one, series) for one, series in zip(made, written, strict=True)],
        referenced_images=library,
    )
    evidence = [image for series in written for image in series] + library
    made_at = datetime.now().isoformat()  # a report says when it was made, so one made later is another object
    uid = derived_uid("report", made_at, *(series[0].SeriesInstanceUID for series in written), digest([str(content).encode()]))
    with warnings_as("ignore"):  # names of one component, which many sites use
        report = Comprehensive3DSR(
            evidence=evidence,
            content=content[0],
            series_instance_uid=derived_uid(uid, "series"),
            series_number=made[0].number - made[0].number % 100 + SR_NUMBER % 100,
            sop_instance_uid=uid,
            instance_number=1,
            is_complete=True,
            manufacturer=MAKER,
            manufacturer_model_name=f"Med-K2N {made[0].stamp.name}",
            software_versions=__version__,
            device_serial_number=made[0].stamp.sha256[:12],
            series_description="SYNTH report (medk2n) NOT FOR DIAGNOSIS",
        )
    report.SyntheticData = "YES"
    file = folder / "dicom" / "synth_report.dcm"
    save(report, file, uid)
    return file


def _sources(made: Sequence[Derivation]) -> dict[Modality, Donor]:
    return {m: d for one in made for m, d in one.donors.items()}


def _acquired(modality: Modality, donor: Donor) -> Iterator[Dataset]:
    """An acquired series as the image library lists it: classic images one by one, an enhanced one by its first frame."""
    seen: set[str] = set()
    for k, one in enumerate(donor.instances):
        if one.sop_instance in seen:
            continue
        seen.add(one.sop_instance)
        image = Dataset()
        image.update(donor.header)
        image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = one.sop_class, one.sop_instance, donor.uid
        image.Modality = "MR"
        plane(image, donor.grid, k)
        yield image


def _device(made: Derivation) -> ObserverContext:
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", made.stamp.sha256),
            name=MAKER,
            manufacturer_name=MAKER,
            model_name=f"Med-K2N {made.stamp.name}",
            serial_number=made.stamp.sha256[:12],
        ),
    )


def _group(made: Derivation, series: Sequence[Dataset]) -> MeasurementsAndQualitativeEvaluations:
    target, middle = made.target, series[len(series) // 2]
    key = next(c.source for c in target.contributions if c.key)
    measured = [
        Measurement(_name("predicted_ssim", "Predicted SSIM"), round(target.quality, 4), _RATIO),
        Measurement(_name("expected_error", f"Expected absolute error, {target.units}"), round(target.expected_error, 2), _RATIO),
        Measurement(_name("level", "Brightness multiplied by"), round(target.level, 4), _RATIO),
        *(m for c in target.contributions for m in _contribution(c)),
    ]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            derived_uid(middle.SeriesInstanceUID, "tracking"), f"Synthetic {made.modality.value}"
        ),
        finding_type=_name("synthetic_image", "Synthetic image, not for diagnosis"),
        algorithm_id=AlgorithmIdentification(
            name=f"Med-K2N {made.stamp.name}",
            version=made.stamp.version,
            parameters=[f"weights sha256 {made.stamp.sha256}", f"medk2n {__version__}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=MAKER,
        ),
        measurements=measured,
        qualitative_evaluations=[
            QualitativeEvaluation(_name("target", "Synthesised contrast"), _contrast(made.modality)),
            QualitativeEvaluation(_name("key_frame", "Key frame"), _contrast(key)),
        ],
        source_images=[SourceImageForMeasurementGroup(MR_IMAGE, middle.SOPInstanceUID)],
    )


def _contribution(one: Contribution) -> Iterator[Measurement]:
    """The source's name is part of the concept, so that a reader of plain name and value loses nothing."""
    source = one.source.value
    for word, meaning, value in (
        ("w_global", "Fusion weight", one.w_global),
        ("threshold", "Gate threshold", one.threshold),
        ("gate", "Gate (1 open, 0 closed)", float(one.gate)),
        ("share", "Share of the total weight", one.share),
    ):
        yield Measurement(_name(f"{word}_{source}", f"{meaning}, {source}"), round(value, 4), _RATIO)


def _contrast(modality: Modality) -> CodedConcept:
    return _name(f"contrast_{modality.value}", modality.value)


def _name(value: str, meaning: str) -> CodedConcept:
    """A concept of our own; its code is an SH of at most 16 characters (PS3.5 6.2)."""
    return CodedConcept(value, _SCHEME, meaning)
