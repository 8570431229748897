"""Synthesis -> derived MR series and SR of the acquired study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.fusion import Synthesis
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.writing.acquired import Acquired
from medk2n_cli.writing.deidentify import deidentified
from medk2n_cli.writing.dicom import FIRST_SERIES_NUMBER, Derivation, write_dicom
from medk2n_cli.writing.dicom_donor import read_donor
from medk2n_cli.writing.dicom_sr import write_sr


def write_dicom_study(aside: Path, synthesis: Synthesis, acquired: Acquired, options: str, deidentify: bool) -> list[Path]:
    """One series per target below ``dicom/``, and the SR.

    Raises:
        OutputError: the acquired series name no study, or a patient whose identifiers cannot be kept to the letter.
    """
    report = synthesis.report
    reference = next(i.modality for i in report.inputs if i.registration == "reference")
    donors = {m: read_donor(s) for m, s in _reference_first(acquired.sources, reference).items()}
    if deidentify:
        donors = {m: deidentified(d) for m, d in donors.items()}
    elif altered := next((d.altered for d in donors.values() if d.altered), ""):
        raise OutputError(
            f"The {altered} of the acquired series is no valid value, and a changed one could be somebody else's.",
            next_step="Write NIfTI with --format nifti, or DICOM without the patient with --deid.",
            code="PATIENT_IDENTITY",
        )
    moved = {i.modality: i.moved_mm for i in report.inputs}
    first = _free_numbers(acquired.study, acquired.sources[reference].study)
    made = [
        Derivation(t, synthesis.volumes[t.modality], donors, moved, report.model, options, first + _slot(t.modality))
        for t in report.targets
    ]
    images = [write_dicom(aside, one) for one in made]
    return [f for files in images for f in files] + [write_sr(aside, made, images)]


def _reference_first(sources: Mapping[Modality, Series], reference: Modality) -> dict[Modality, Series]:
    return {reference: sources[reference], **sources}


def _free_numbers(study: Study, uid: str) -> int:
    """9000, or the next hundred where an acquired series of the study has one of its numbers."""
    taken = {s.number for s in study.series if s.study == uid and s.code != "SYNTHETIC"}
    first = FIRST_SERIES_NUMBER
    while taken & set(range(first, first + 100)):
        first += 100
    return first


def _slot(modality: Modality) -> int:
    return list(Modality).index(modality) + 1
