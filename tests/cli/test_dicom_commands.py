"""The DICOM way through the command line: formats, privacy, one bad study among good ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from medk2n_cli.core.modality import Modality
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
SECRETS = ("Doe", "Jane", "P-123", "19610203", "20240506", "ACC-77", "House")
COARSE = phantom.axial((4, 4, 10))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every place a patient's data hides in, the description among them."""
    folder = dicoms.write_study(tmp_path_factory.mktemp("s"), (T1, T2), COARSE)
    for file in folder.iterdir():
        one = pydicom.dcmread(file)
        one.PatientBirthDate, one.StudyDate, one.AccessionNumber, one.ReferringPhysicianName = (
            "19610203",
            "20240506",
            "ACC-77",
            "House^G",
        )
        one.SeriesDescription = one.SeriesDescription + " Jane Doe"
        one.save_as(file)
    return folder


def without_pictures(file: Path) -> bytes:
    """Base64 spells every short word sooner or later."""
    return re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", file.read_bytes())


def synthesised(study: Path, out: Path, *more: object) -> str:
    done = medk2n("synthesize", "--in", study, "--want", "FLAIR", "--out", out, "--weights", TINY, "--verbose", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("form", "nifti", "dicom"), [("auto", False, True), ("dicom", False, True), ("nifti", True, False), ("both", True, True)]
)
def test_the_format_is_what_was_asked_for(form: str, nifti: bool, dicom: bool, study: Path, tmp_path: Path) -> None:
    synthesised(study, tmp_path / "o", "--format", form)
    assert bool(list((tmp_path / "o").glob("*.nii.gz"))) == nifti
    assert bool(list((tmp_path / "o").rglob("*.dcm"))) == dicom
    assert (tmp_path / "o" / "dicom").exists() == dicom
    assert medk2n("verify", tmp_path / "o").returncode == 0


def test_another_result_in_the_same_folder_leaves_no_slices_of_the_first(study: Path, tmp_path: Path) -> None:
    synthesised(study, tmp_path / "o", "--format", "both")
    synthesised(study, tmp_path / "o", "--format", "nifti", "--overwrite")
    assert not (tmp_path / "o" / "dicom").exists()
    assert medk2n("verify", tmp_path / "o").returncode == 0


def test_logs_names_and_reports_hold_nothing_of_the_patient(study: Path, tmp_path: Path) -> None:
    said = synthesised(study, tmp_path / "o", "--format", "both") + medk2n("scan", study).stdout
    said += "".join(f.relative_to(tmp_path).as_posix() for f in (tmp_path / "o").rglob("*"))
    said += "".join(without_pictures(f).decode() for f in (tmp_path / "o").iterdir() if f.suffix in (".json", ".csv", ".html"))
    assert "AX T2 TSE" in said
    for secret in SECRETS:
        assert secret.lower() not in said.lower(), secret


def test_a_deidentified_result_holds_nothing_at_all(study: Path, tmp_path: Path) -> None:
    uid = pydicom.dcmread(next(study.iterdir())).StudyInstanceUID
    said = synthesised(study, tmp_path / "o", "--format", "both", "--deid")
    answer = medk2n(
        *("synthesize", "--in", study, "--want", "FLAIR", "--out", tmp_path / "p", "--weights", TINY, "--deid", "--json")
    )
    for secret in (*SECRETS, uid, "AX T2 TSE"):
        assert secret not in said + answer.stdout + answer.stderr, secret
    assert json.loads((tmp_path / "o" / "result.json").read_text())["inputs"] == [], "no digest that leads back"
    assert medk2n("verify", tmp_path / "o").returncode == 0
    for file in (f for f in (tmp_path / "o").rglob("*") if f.is_file()):
        content = without_pictures(file)
        for secret in (*SECRETS, uid, "AX T2 TSE"):
            assert secret.encode() not in content, f"{secret} in {file.name}"
    assert "Jane" not in said


def test_dicom_from_files_that_are_none_is_refused_before_any_work(head_study: Path, tmp_path: Path) -> None:
    done = medk2n("synthesize", "--in", head_study, "--out", tmp_path / "o", "--weights", TINY, "--format", "dicom", "--json")
    assert failed(done, 3)["code"] == "NO_DICOM_INPUT"
    assert not (tmp_path / "o").exists()
    done = medk2n("synthesize", "--in", head_study, "--out", tmp_path / "o", "--weights", TINY, "--format", "jpeg", "--json")
    assert failed(done, 4)["code"] == "BAD_FORMAT"


def test_two_studies_are_a_question_and_one_can_be_chosen(tmp_path: Path) -> None:
    for uid in ("1.2.3.1", "1.2.3.2"):
        dicoms.write_study(tmp_path / "export" / uid, (T1,), COARSE, uid)
    error = failed(medk2n("synthesize", "--in", tmp_path / "export", "--out", tmp_path / "o", "--weights", TINY, "--json"), 3)
    assert error["code"] == "SEVERAL_STUDIES"
    assert "--study 1.2.3.1" in error["next_step"]
    synthesised(tmp_path / "export", tmp_path / "o", "--study", "1.2.3.2")
    assert {pydicom.dcmread(f).StudyInstanceUID for f in (tmp_path / "o").rglob("*.dcm")} == {"1.2.3.2"}


def test_a_broken_study_beside_a_good_one_does_not_lose_the_good_one(study: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    shutil.copytree(study, export / "good")
    dicoms.write_study(export / "broken", (T1, T2), COARSE)
    for file in (export / "broken").iterdir():
        if pydicom.dcmread(file).ImagePositionPatient[2] == COARSE.to_lps(np.array([0.0, 0.0, 4.0]))[2]:
            file.unlink()
    said = synthesised(export, tmp_path / "o")
    assert "key frame" in said
    rows = json.loads(medk2n("scan", export, "--json").stdout)["data"]["series"]
    refused = {r["label"]: (r["code"], r["why_not"]) for r in rows if not r["used"]}
    assert [code for code, _ in refused.values()] == ["SLICE_GAP", "SLICE_GAP"]
    assert "3 AX T1" in refused


def test_a_dicomdir_is_skipped(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "disc")
    directory = pydicom.Dataset()
    directory.FileSetID, directory.DirectoryRecordSequence = "DISC", []
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=True)
    rows = json.loads(medk2n("scan", tmp_path / "disc", "--json").stdout)["data"]["series"]
    assert [r["used"] for r in rows] == [True, True]


def test_a_site_can_bring_its_own_rules(study: Path, tmp_path: Path) -> None:
    rules = {"schema": "medk2n.rules/1", "rules": [{"modality": "none", "when": {"SeriesNumber": "4"}}]}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    done = medk2n("scan", study, "--rules", tmp_path / "rules.json", "--json")
    rows = {s["label"]: s["why_not"] for s in json.loads(done.stdout)["data"]["series"]}
    assert rows == {"3 AX T1 *** ***": None, "4 AX T2 TSE *** ***": "left out by rule 1"}
    done = medk2n("scan", study, "--rules", tmp_path / "nowhere.json", "--json")
    assert failed(done, 4)["code"] == "BAD_RULES"


def test_a_message_names_the_archive_and_not_where_it_was_unpacked(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as packed:
        packed.writestr("readme.txt", "nothing")
    error = failed(medk2n("synthesize", "--in", tmp_path / "empty.zip", "--out", tmp_path / "o", "--weights", TINY, "--json"), 3)
    assert error["problem"] == f"No NIfTI or DICOM image found in {tmp_path / 'empty.zip'}."
