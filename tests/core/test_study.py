from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study

GRID = Grid((2, 2, 2), np.eye(4))


def series(label: str, modality: Modality | None) -> Series:
    return Series(label, (Path(label),), GRID, modality, "said so")


def test_two_series_of_one_modality_are_both_named() -> None:
    study = Study(Path("s"), (series("a.nii", Modality.T1), series("b.nii", Modality.T1)))
    with pytest.raises(StudyError, match=r"a\.nii.*b\.nii") as failure:
        study.chosen()
    assert failure.value.next_step.startswith("Choose one with --use T1=")


def test_an_ignored_modality_is_as_if_absent() -> None:
    study = Study(Path("s"), (series("a.nii", Modality.T1), series("b.nii", Modality.T2)))
    assert list(study.without([Modality.T1]).chosen()) == [Modality.T2]


def test_chosen_series_come_in_slot_order() -> None:
    study = Study(Path("s"), (series("a.nii", Modality.ADC), series("b.nii", Modality.T1)))
    assert list(study.chosen()) == [Modality.T1, Modality.ADC]


def test_an_empty_folder_says_what_to_give() -> None:
    with pytest.raises(StudyError, match="No NIfTI or DICOM image") as failure:
        Study(Path("s"), ()).chosen()
    assert "--in" in failure.value.next_step
