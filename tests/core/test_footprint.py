"""Memory is predicted from headers, and the prediction holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medk2n_cli import itk
from medk2n_cli.core.footprint import footprint, in_words, parse_bytes
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from tests import phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def grid(shape: tuple[int, int, int], spacing: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-(n - 1) * spacing / 2 for n in shape]
    return Grid(shape, affine)


def test_four_contrasts_of_512_by_512_by_400_stay_below_three_gigabytes() -> None:
    """Measured once on this size: 2.65 GB."""
    large = grid((512, 512, 400), 0.5)
    told = footprint(dict.fromkeys((T1, T1C, T2, FLAIR), large), 2, large)
    assert 2.65e9 < told.peak < parse_bytes("3G")


def test_slices_are_fewer_where_memory_is_short_but_never_none() -> None:
    small = grid((200, 200, 60), 1.0)
    told = footprint({T1: small, T2: small}, 2, small)
    assert told.slices(0, 16) == 16
    assert told.slices(told.peak + 5 * told.slice_bytes, 16) == 5
    assert told.slices(told.peak, 16) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("3G", 3 * 2**30), ("2.5GiB", round(2.5 * 2**30)), ("800mb", 800 * 2**20), ("0", 0), (" 5 k", 5 * 2**10), ("1234", 1234)],
)
def test_amounts_are_read_as_people_write_them(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["much", "-3G", "", "3X", "nan", "inf"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bytes(text)


def test_amounts_are_said_as_people_write_them() -> None:
    assert (in_words(3 * 2**30), in_words(300 * 2**20)) == ("3.0 GiB", "300 MiB")


def test_a_run_stays_below_its_prediction_and_is_refused_below_it(tmp_path: Path) -> None:
    coarse, fine = phantom.axial((4.0, 4.0, 4.0)), grid((320, 320, 260), 0.75)
    for modality in (T1, T2):
        image = itk.to_image(phantom.volume(modality, coarse), coarse)
        whole = sitk.Resample(
            image, fine.shape, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, fine.origin.tolist(), fine.spacing,
            [1, 0, 0, 0, 1, 0, 0, 0, 1], 0.0, sitk.sitkInt16,
        )  # fmt: skip
        (tmp_path / "e").mkdir(exist_ok=True)
        sitk.WriteImage(whole, str(tmp_path / "e" / f"{modality.value}.nii"))
    predicted = footprint(dict.fromkeys((T1, T2), fine), 2, fine).peak
    words = ("synthesize", "--in", tmp_path / "e", "--want", "FLAIR,T1C", "--weights", TINY, "--no-register", "--out")
    told = failed(medk2n(*words, tmp_path / "no", "--max-memory", f"{predicted - 2**20}", "--json"), 4)
    assert told["code"] == "TOO_MUCH_MEMORY"
    assert not (tmp_path / "no").exists()
    done = medk2n(*words, tmp_path / "o", "--max-memory", f"{predicted + 2**20}")
    assert done.returncode == 0, done.stderr
    peak = json.loads((tmp_path / "o" / "result.json").read_text())["peak_memory_mb"] * 2**20
    assert 0.5 * predicted < peak < predicted
    assert failed(medk2n(*words, tmp_path / "p", "--max-memory", "lots", "--json"), 4)["code"] == "BAD_MEMORY"


def test_the_peak_is_that_of_the_run_whoever_started_it() -> None:
    """The kernel's resource usage of a process starts at what its parent held."""
    held = np.ones(2**27, np.float64)  # 1 GiB, all of it touched
    told = subprocess.run(
        [sys.executable, "-c", "from medk2n_cli.cli.synthesising import _peak_memory_mb; print(_peak_memory_mb())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 10 < float(told.stdout) < held.nbytes / 2**20 / 2
