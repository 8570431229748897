from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading import finding
from medk2n_cli.reading.finding import images
from medk2n_cli.reading.scan import scan
from medk2n_cli.reading.studies import find_studies
from tests import dicoms, phantom


def failing(real: Callable[..., object], place: Path, number: int) -> Callable[..., object]:
    """`real`, but for one path that the system refuses: tests may run as root, to whom nothing is closed."""

    def call(path: Path, *rest: object) -> object:
        if Path(path) == place:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *rest)

    return call


def test_a_closed_folder_is_told_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = phantom.write_study(tmp_path / "s", (Modality.T1, Modality.T2))
    phantom.write_study(folder / "more", (Modality.FLAIR,))
    monkeypatch.setattr(finding.os, "scandir", failing(os.scandir, folder / "more", errno.EACCES))
    study = scan([folder])
    assert list(study.chosen()) == [Modality.T1, Modality.T2]
    assert [(s.label, s.code, s.unused) for s in study.series if s.unused] == [
        ("more", "CLOSED", "the system does not let us read it (Permission denied)")
    ]


def test_a_file_on_a_broken_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dicoms.write_study(tmp_path / "s", (Modality.T1,), phantom.axial((8.0, 8.0, 12.0)))
    first = sorted(folder.iterdir())[0]
    monkeypatch.setattr(finding, "is_dicom", failing(finding.is_dicom, first, errno.EIO))
    closed = [f for f in images([folder]) if f.closed]
    assert [(f.file, f.label) for f in closed] == [(first, first.name)]
    assert "Input/output error" in str(closed[0].refused().unused)


def test_a_closed_folder_of_an_export_is_a_study_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom.write_study(tmp_path / "one", (Modality.T1,))
    phantom.write_study(tmp_path / "two", (Modality.T1,))
    monkeypatch.setattr(finding.os, "scandir", failing(os.scandir, tmp_path / "two", errno.EACCES))
    assert [(s.name, s.where) for s in find_studies(tmp_path)] == [
        ("one", (tmp_path / "one" / "T1.nii.gz",)),
        ("two", (tmp_path / "two",)),
    ]
    with pytest.raises(StudyError, match="does not let us read it"):
        scan([tmp_path / "two"]).chosen()


def test_what_vanishes_meanwhile_is_none_of_our_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = phantom.write_study(tmp_path / "s", (Modality.T1,))
    (folder / "gone").mkdir()
    monkeypatch.setattr(finding.os, "scandir", failing(os.scandir, folder / "gone", errno.ENOENT))
    assert [f.label for f in images([folder])] == ["T1.nii.gz"]
