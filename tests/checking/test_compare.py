from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medk2n_cli.checking.compare import compare
from medk2n_cli.core.errors import RequestError, StudyError
from medk2n_cli.core.modality import Modality
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
GRID = phantom.axial((3, 3, 8))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = dicoms.write_study(tmp_path_factory.mktemp("s"), (T1, T2), GRID)
    out = tmp_path_factory.mktemp("o") / "r"
    done = medk2n(
        "synthesize", "--in", study, "--want", "FLAIR,T1C", "--out", out, "--weights", TINY, "--format", "both", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    return out


def test_a_result_is_the_same_as_itself_in_either_format(result: Path, tmp_path: Path) -> None:
    dicom_alone = tmp_path / "dicom alone"
    shutil.copytree(result, dicom_alone)
    for file in dicom_alone.glob("*.nii.gz"):
        file.unlink()
    for other in (result, dicom_alone):
        found = compare(result, other)
        assert [c.modality for c in found] == [T1C, FLAIR]
        for one in found:
            assert one.same_grid
            assert one.largest == 0
            assert one.as_is.ssim == pytest.approx(1)


def test_a_changed_result_shows_how_much_it_changed(result: Path, tmp_path: Path) -> None:
    shutil.copytree(result, tmp_path / "b")
    image = sitk.ReadImage(str(result / "synth_FLAIR.nii.gz"))
    sitk.WriteImage(image + 20, str(tmp_path / "b" / "synth_FLAIR.nii.gz"))
    (one,) = compare(result, tmp_path / "b", FLAIR)
    assert one.mean == pytest.approx(20, abs=0.5)
    assert one.windowed.r2 == pytest.approx(1, abs=1e-3)
    assert one.as_is.r2 < 1


def test_a_result_against_a_real_volume_of_any_scale_and_grid(result: Path, tmp_path: Path) -> None:
    fine = phantom.axial((2, 2, 4))
    real = phantom.write(tmp_path / "FLAIR.nii.gz", (phantom.volume(FLAIR, fine) * 7).astype(np.int16), fine)
    (one,) = compare(real, result)
    assert one.modality is FLAIR
    assert not one.same_grid
    assert (one.a.synthetic, one.b.synthetic) == (False, True)
    assert -1 < one.windowed.r2 <= 1
    (truth,) = compare(real, phantom.write(tmp_path / "b" / "FLAIR.nii.gz", phantom.volume(FLAIR, fine).astype(np.int16), fine))
    assert truth.as_is.r2 > 0.99, "an acquired scale does not matter"


def test_what_cannot_be_compared_is_told(result: Path, tmp_path: Path) -> None:
    other = phantom.write(tmp_path / "ADC.nii.gz", phantom.volume(ADC, GRID).astype(np.int16), GRID)
    with pytest.raises(RequestError, match="shows ADC"):
        compare(result, other)
    image = sitk.ReadImage(str(result / "synth_FLAIR.nii.gz"))
    image.SetOrigin((900.0, 0.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "FLAIR.nii.gz"))
    with pytest.raises(StudyError) as failure:
        compare(result, tmp_path / "FLAIR.nii.gz")
    assert failure.value.code == "NO_OVERLAP"
    nameless = phantom.write(tmp_path / "scan.nii.gz", phantom.volume(FLAIR, GRID).astype(np.int16), GRID)
    with pytest.raises(StudyError, match="which contrast"):
        compare(result, nameless)
    assert compare(result, nameless, FLAIR)


def test_an_image_whose_header_does_not_say_where_left_is_is_not_compared(result: Path, tmp_path: Path) -> None:
    real = phantom.write(tmp_path / "FLAIR.nii", phantom.volume(FLAIR, GRID).astype(np.int16), GRID)
    header = bytearray(real.read_bytes())
    header[252:256] = bytes(4)  # qform_code, sform_code
    real.write_bytes(header)
    with pytest.raises(StudyError) as failure:
        compare(result, real)
    assert failure.value.code == "NO_ORIENTATION"


def test_the_command_draws_the_differences(result: Path, tmp_path: Path) -> None:
    done = medk2n("compare", result, result, "--out", tmp_path / "d", "--json")
    assert done.returncode == 0, done.stderr
    assert [c["same_grid"] for c in json.loads(done.stdout)["data"]["comparisons"]] == [True, True]
    assert {f.name for f in (tmp_path / "d").iterdir()} == {
        "synth_difference_T1C.jpg",
        "synth_difference_FLAIR.jpg",
        "compare.json",
        "result.json",
    }
    shown = medk2n("compare", result, result)
    assert "B AGAINST A" in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert failed(medk2n("compare", result, tmp_path / "nowhere", "--json"), 3)["code"] == "NOT_FOUND"
