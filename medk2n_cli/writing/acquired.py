"""What a result is written from, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.views import Views


@dataclass(frozen=True)
class Formats:
    """What is written: NIfTI, DICOM or both; DICOM with or without the patient; a page to scroll through or not.

    `ledger`: a file that gets a line for every synthetic object.
    """

    nifti: bool = True
    dicom: bool = False
    deidentify: bool = False
    viewer: bool = False
    ledger: Path | None = None


@dataclass(frozen=True, eq=False)
class Acquired:
    """The study a result comes from, the series of it that were used, what to look at, and rows of an audit of it."""

    study: Study
    sources: Mapping[Modality, Series]
    views: Views
    audits: tuple[Mapping[str, object], ...] = ()
