"""A result that was touched is found out, whatever was done to it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.modality import Modality
from medk2n_cli.verifying.verify import verify
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = dicoms.write_study(tmp_path_factory.mktemp("s"), (Modality.T1, Modality.T2), phantom.axial((3, 3, 10)))
    out = tmp_path_factory.mktemp("r") / "out"
    done = medk2n("synthesize", "--in", study, "--want", "FLAIR", "--out", out, "--weights", TINY, "--format", "both", "--quiet")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def result(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "out"))


def test_a_fresh_result_is_what_it_should_be(written: Path) -> None:
    seen = verify(written)
    assert seen.findings == ()
    assert seen.series == 2
    assert seen.instances == len(list((written / "dicom").rglob("*.dcm")))
    done = medk2n("verify", written)
    assert done.returncode == 0
    assert "all marked synthetic" in " ".join(done.stdout.split())


def slice_of(result: Path) -> Path:
    return sorted((result / "dicom" / "synth_FLAIR").iterdir())[4]


def rewritten(file: Path, change: Callable[[pydicom.Dataset], None]) -> None:
    one = pydicom.dcmread(file)
    change(one)
    one.save_as(file)


def missing(result: Path) -> None:
    slice_of(result).unlink()


def added(result: Path) -> None:
    shutil.copy(slice_of(result), result / "dicom" / "synth_FLAIR" / "more.dcm")


def truncated(result: Path) -> None:
    slice_of(result).write_bytes(slice_of(result).read_bytes()[:3000])


def unmarked(result: Path) -> None:
    rewritten(slice_of(result), lambda one: one.__delattr__("SyntheticData"))


def moved(result: Path) -> None:
    for file in (result / "dicom" / "synth_FLAIR").iterdir():
        rewritten(file, lambda one: setattr(one, "ImagePositionPatient", [5.0, *one.ImagePositionPatient[1:]]))


def mirrored(result: Path) -> None:
    for file in (result / "dicom" / "synth_FLAIR").iterdir():
        rewritten(file, lambda one: setattr(one, "PixelData", one.pixel_array[:, ::-1].tobytes()))


def two_studies(result: Path) -> None:
    rewritten(slice_of(result), lambda one: setattr(one, "StudyInstanceUID", generate_uid()))


def same_uid(result: Path) -> None:
    other = pydicom.dcmread(sorted((result / "dicom" / "synth_FLAIR").iterdir())[0]).SOPInstanceUID
    rewritten(slice_of(result), lambda one: setattr(one, "SOPInstanceUID", other))


def plain_header(result: Path) -> None:
    image = sitk.ReadImage(str(result / "synth_FLAIR.nii.gz"))
    bare = sitk.GetImageFromArray(sitk.GetArrayFromImage(image).astype(np.int16))
    bare.CopyInformation(image)
    sitk.WriteImage(bare, str(result / "synth_FLAIR.nii.gz"))


def silent_sidecar(result: Path) -> None:
    (result / "synth_FLAIR.json").write_text("{}")


CHANGES = {
    "missing": (missing, "missing"),
    "added": (added, "not listed"),
    "truncated": (truncated, "changed since"),
    "unmarked": (unmarked, "SyntheticData is not YES"),
    "moved": (moved, "lies elsewhere"),
    "mirrored": (mirrored, "other voxels"),
    "two studies": (two_studies, "several studies"),
    "same uid": (same_uid, "has the UID of"),
    "plain header": (plain_header, "header does not say"),
    "silent sidecar": (silent_sidecar, "does not say that the images are synthetic"),
}


def signed_again(result: Path) -> None:
    """The digests fit again: only looking into the files can tell."""
    manifest = json.loads((result / "result.json").read_text())
    for entry in manifest["outputs"]:
        if (file := result / entry["file"]).exists():
            entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (result / "result.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("how", CHANGES)
def test_a_touched_result_is_found_out(how: str, result: Path) -> None:
    change, says = CHANGES[how]
    change(result)
    if how != "truncated":
        signed_again(result)
    assert says in " | ".join(f.problem for f in verify(result).findings)


def test_findings_are_an_error_for_scripts(result: Path) -> None:
    missing(result)
    error = failed(medk2n("verify", result, "--json"), 6)
    assert error["code"] == "VERIFY_FAILED"
    assert "missing" in error["problem"]


def test_a_folder_that_holds_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as failure:
        verify(tmp_path)
    assert failure.value.code == "NO_RESULT"
