"""The straight line on real studies, with the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.pipeline import Request, open_weights, synthesise, synthesize
from medk2n_cli.reading.finding import Found, images
from medk2n_cli.reading.scan import load, scan
from tests import dicoms, phantom

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def test_the_one_call_api_returns_volumes_and_report(head_study: Path) -> None:
    result = synthesize(head_study, want="FLAIR,T1C")
    assert set(result.volumes) == {FLAIR, T1C}
    assert result.report.to_dict()["schema"] == "medk2n.fusion-report/1"


def test_nothing_is_missing_for_sure_while_a_file_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = phantom.write_study(tmp_path, (T1, T2, FLAIR))
    shut = Found(study / "FLAIR.nii.gz", "FLAIR.nii.gz", "Permission denied")
    found = [f if f.file != shut.file else shut for f in images([study])]
    monkeypatch.setattr("medk2n_cli.reading.scan.images", lambda places: found)
    with pytest.raises(StudyError, match=r"FLAIR\.nii\.gz: the system does not let us read it") as error:
        synthesize(study)
    assert error.value.code == "CLOSED"
    assert set(synthesize(study, want="T1C").volumes) == {T1C}


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_left_stays_left_all_the_way_through_the_network(plane: str, tmp_path: Path) -> None:
    """The mark is bright in T1C and FLAIR alike; its place in the synthesised FLAIR is its place in the patient."""
    axes = {"axial": np.eye(3), "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])}[plane]
    grid = phantom.around(axes, (2.0, 2.0, 2.0))
    made = synthesize(phantom.write_study(tmp_path, (T1C, T2), grid), want="FLAIR").volumes[FLAIR]
    assert made.grid.same_place(grid)
    mirrored = phantom.MARK_LPS * [-1, 1, 1]
    at, other = (_mean_around(made.array, phantom.points(grid), place) for place in (phantom.MARK_LPS, mirrored))
    assert abs(at - other) > 30, "the network answers differently where the mark is"
    aligned = _mean_around(phantom.volume(FLAIR, grid), phantom.points(grid), phantom.MARK_LPS)
    assert abs(at - aligned) < abs(other - aligned)


def _mean_around(array: np.ndarray, points: np.ndarray, place: np.ndarray) -> float:
    return float(array[np.linalg.norm(points - place, axis=-1) < 6].mean())


def test_a_real_whole_head_gets_back_a_flair_that_resembles_its_own(open_ms: Path) -> None:
    study = open_ms / "longitudinal_01_study1"
    result = synthesise(Request((study,), (FLAIR,), ignore=frozenset({FLAIR})), open_weights())
    made = result.synthesis.volumes[FLAIR]
    reference = scan([study]).chosen()[T1].grid
    assert reference is not None
    assert made.grid.same_place(reference)
    from medk2n_cli.aligning.resample import resample

    truth = resample(load(scan([study]).chosen())[FLAIR], made.grid).array
    inside = made.array > 100
    assert inside.mean() > 0.1
    assert np.corrcoef(made.array[inside], truth[inside])[0, 1] > 0.6


def test_a_real_study_gets_everything_it_lacks(open_ms: Path) -> None:
    result = synthesise(Request((open_ms / "longitudinal_01_study1",)), open_weights())
    assert set(result.synthesis.volumes) == {T1C, DWI, ADC}
    report = result.synthesis.report
    assert {i.modality for i in report.inputs} == {T1, T2, FLAIR}
    assert all(max(i.identity, key=lambda m: i.identity[m]) in (i.modality, T1C, T1) for i in report.inputs)
    assert any("diffusion" in w for t in report.targets for w in t.warnings)


def test_swapped_files_are_noticed(open_ms: Path) -> None:
    study = open_ms / "longitudinal_01_study1"
    swapped = {T2: "FLAIR.nii.gz", FLAIR: "T2.nii.gz"}
    result = synthesise(Request((study,), (T1,), use=swapped, ignore=frozenset({T1})), open_weights())
    said = " ".join(result.synthesis.report.warnings)
    assert "looks like T2" in said or "looks like FLAIR" in said


def test_a_scanners_export_gives_what_the_same_images_give_as_nifti(tmp_path: Path) -> None:
    export = dicoms.write_study(tmp_path / "export", (T1, T2))
    for modality, volume in load(scan([export]).chosen()).items():
        phantom.write(tmp_path / "nifti" / f"{modality.value}.nii.gz", volume.array, volume.grid)
    by_dicom, by_nifti = (synthesize(tmp_path / kind, want="FLAIR") for kind in ("export", "nifti"))
    assert np.abs(by_dicom.volumes[FLAIR].array - by_nifti.volumes[FLAIR].array).max() < 1
    assert [i.source for i in by_dicom.report.inputs] == ["3 AX T1", "4 AX T2 TSE"]
    told = json.dumps(by_dicom.report.to_dict())
    assert "Doe" not in told
    assert "P-123" not in told
