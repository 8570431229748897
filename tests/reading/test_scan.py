from __future__ import annotations

import json
from pathlib import Path

import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.scan import scan
from medk2n_cli.reading.studies import find_studies
from tests import phantom
from tests.reading.test_nifti import patched


def test_every_file_gets_a_row_used_or_not(head_study: Path, tmp_path: Path) -> None:
    folder = phantom.write_study(tmp_path / "s", (Modality.T1, Modality.T2))
    (folder / "notes.txt").write_text("not an image")
    (folder / "broken_FLAIR.nii.gz").write_bytes(b"junk")
    study = scan([folder])
    assert [(s.label, s.unused is None) for s in study.series] == [
        ("T1.nii.gz", True),
        ("T2.nii.gz", True),
        ("broken_FLAIR.nii.gz", False),
    ]
    assert list(study.chosen()) == [Modality.T1, Modality.T2]


def test_use_overrules_the_name(tmp_path: Path) -> None:
    folder = phantom.write_study(tmp_path, (Modality.T1, Modality.T2))
    study = scan([folder], {Modality.FLAIR: "T2.nii.gz"})
    chosen = study.chosen()
    assert chosen[Modality.FLAIR].label == "T2.nii.gz"
    assert chosen[Modality.FLAIR].evidence == "named by --use"
    assert Modality.T2 not in chosen


def test_use_settles_a_tie(tmp_path: Path) -> None:
    grid = phantom.axial()
    for name in ("a_T1.nii.gz", "b_T1.nii.gz"):
        phantom.write(tmp_path / name, phantom.volume(Modality.T1, grid), grid)
    with pytest.raises(StudyError) as failure:
        scan([tmp_path]).chosen()
    assert failure.value.code == "DUPLICATE_MODALITY"
    assert scan([tmp_path], {Modality.T1: "b_T1.nii.gz"}).chosen()[Modality.T1].label == "b_T1.nii.gz"


def test_use_that_names_no_file_is_an_error(head_study: Path) -> None:
    with pytest.raises(StudyError, match="names no file"):
        scan([head_study], {Modality.T1: "nothing.nii.gz"})


def test_files_may_be_given_instead_of_a_folder(head_study: Path) -> None:
    study = scan([head_study / "T1.nii.gz"])
    assert list(study.chosen()) == [Modality.T1]


def test_a_synthetic_image_is_never_an_input(tmp_path: Path) -> None:
    folder = phantom.write_study(tmp_path, (Modality.T1, Modality.T2))
    (folder / "T2.json").write_text(json.dumps({"synthetic": True}))
    study = scan([folder])
    assert list(study.chosen()) == [Modality.T1]
    assert study.series[1].code == "SYNTHETIC"


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not exist"):
        scan([tmp_path / "nowhere"])


def test_brats_bids_and_plain_layouts_are_read(tmp_path: Path) -> None:
    grid = phantom.axial((8.0, 8.0, 8.0))
    layouts = {
        "brats": [
            "BraTS-GLI-00001-000-t1n",
            "BraTS-GLI-00001-000-t1c",
            "BraTS-GLI-00001-000-t2w",
            "BraTS-GLI-00001-000-t2f",
            "BraTS-GLI-00001-000-seg",
        ],
        "bids": ["sub-01/anat/sub-01_T1w", "sub-01/anat/sub-01_ce-gd_T1w", "sub-01/anat/sub-01_T2w", "sub-01/anat/sub-01_FLAIR"],
        "isles": ["sub-x_dwi", "sub-x_adc", "sub-x_flair"],
    }
    for layout, names in layouts.items():
        for name in names:
            phantom.write(tmp_path / layout / f"{name}.nii.gz", phantom.volume(Modality.T1, grid), grid)
    four = [Modality.T1, Modality.T1C, Modality.T2, Modality.FLAIR]
    assert list(scan([tmp_path / "brats"]).chosen()) == four
    assert list(scan([tmp_path / "bids"]).chosen()) == four
    assert list(scan([tmp_path / "isles"]).chosen()) == [Modality.FLAIR, Modality.DWI, Modality.ADC]


def test_use_cannot_lift_a_refusal_that_protects_left_and_right(tmp_path: Path) -> None:
    file = phantom.write_study(tmp_path, (Modality.T1,)) / "T1.nii.gz"
    patched(file, 280, "<12f", 1, 0, 0, -39, 0, -1, 0, 0, 0, 0, 1, 0)
    with pytest.raises(StudyError) as failure:
        scan([tmp_path], {Modality.T1: "T1.nii.gz"})
    assert failure.value.code == "TRANSFORMS_DISAGREE"


def test_a_file_without_orientation_is_used_only_when_named_and_with_a_warning(tmp_path: Path) -> None:
    file = phantom.write_study(tmp_path, (Modality.T1,)) / "T1.nii.gz"
    patched(file, 252, "<2h", 0, 0)
    assert scan([tmp_path]).series[0].code == "NO_ORIENTATION"
    named = scan([tmp_path], {Modality.T1: "T1.nii.gz"}).chosen()[Modality.T1]
    assert "left and right are a guess" in named.notes[0]


def test_one_file_cannot_be_two_modalities(head_study: Path) -> None:
    with pytest.raises(StudyError) as failure:
        scan([head_study], {Modality.T1C: "T1.nii.gz", Modality.FLAIR: "T1.nii.gz"})
    assert failure.value.code == "USED_TWICE"


@pytest.mark.parametrize("name", [".", "", "/"])
def test_use_with_a_folder_names_no_file(head_study: Path, name: str) -> None:
    with pytest.raises(StudyError, match="names no file"):
        scan([head_study], {Modality.T1: name})


def test_a_link_is_called_what_it_is_called_here(tmp_path: Path) -> None:
    """git-annex and DataLad: the name says FLAIR, the store's file says anything."""
    grid = phantom.axial((6, 6, 20))
    phantom.write(tmp_path / "store" / "T1.nii.gz", phantom.volume(Modality.FLAIR, grid), grid)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "sub-01_FLAIR.nii.gz").symlink_to(tmp_path / "store" / "T1.nii.gz")
    (tmp_path / "study" / "sub-01_FLAIR.json").write_text(json.dumps({"synthetic": True}))
    (series,) = scan([tmp_path / "study"]).series
    assert series.label == "sub-01_FLAIR.nii.gz"
    assert series.code == "SYNTHETIC", "its sidecar lies beside the link"
    (tmp_path / "study" / "sub-01_FLAIR.json").unlink()
    (series,) = scan([tmp_path / "study"]).series
    assert series.modality is Modality.FLAIR


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("sub-01_T1w", "sub-02_FLAIR"), "SEVERAL_PATIENTS"),
        (("sub-01_ses-1_T1w", "sub-01_ses-2_FLAIR"), "SEVERAL_STUDIES"),
        (("BraTS-GLI-00001-000-t1n", "BraTS-GLI-00002-000-t2f"), "SEVERAL_PATIENTS"),
    ],
)
def test_two_peoples_or_two_visits_images_are_no_study_and_a_batch_tells_them_apart(
    tmp_path: Path, names: tuple[str, str], code: str
) -> None:
    grid = phantom.axial((8.0, 8.0, 12.0))
    for name in names:
        phantom.write(tmp_path / f"{name}.nii.gz", phantom.volume(Modality.T1, grid), grid)
    with pytest.raises(StudyError) as failure:
        scan([tmp_path]).chosen()
    assert failure.value.code == code
    assert "batch" in failure.value.next_step
    assert len(find_studies(tmp_path)) == 2
    use = {Modality.T1: f"{names[0]}.nii.gz", Modality.FLAIR: f"{names[1]}.nii.gz"}
    with pytest.raises(StudyError):
        scan([tmp_path], use=use).chosen()


def test_without_names_no_message_names_a_file(tmp_path: Path) -> None:
    grid = phantom.axial((8.0, 8.0, 12.0))
    for name in ("DOE_JANE_T1_a", "DOE_JANE_T1_b"):
        phantom.write(tmp_path / "s" / f"{name}.nii.gz", phantom.volume(Modality.T1, grid), grid)
    with pytest.raises(StudyError) as failure:
        scan([tmp_path / "s"]).nameless().chosen()
    assert "DOE" not in failure.value.problem + failure.value.next_step
