"""Files that cannot be used say why; they never pass and never crash."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.nifti import load_volume, read_series
from tests import phantom


def written(file: Path, array: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    return file


def test_a_good_file_is_read_with_its_place(tmp_path: Path) -> None:
    grid = phantom.around(np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]), (3.0, 4.0, 5.0))
    file = phantom.write(tmp_path / "T1.nii.gz", phantom.volume(Modality.T1, grid), grid)
    series = read_series(file, "T1.nii.gz")
    assert series.unused is None
    assert series.grid is not None
    assert series.grid.same_place(grid)
    volume = load_volume(series)
    assert volume.grid.same_place(grid)
    assert np.allclose(volume.array, phantom.volume(Modality.T1, grid))


@pytest.mark.parametrize(("shape", "what"), [((8, 9), "8"), ((3, 8, 9, 10), "4-D")])
def test_two_or_four_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...], what: str) -> None:
    file = written(tmp_path / "T1.nii.gz", np.ones(shape, np.int16)) if len(shape) == 2 else tmp_path / "T1.nii.gz"
    if len(shape) == 4:
        images = [sitk.GetImageFromArray(np.ones(shape[1:], np.int16)) for _ in range(shape[0])]
        sitk.WriteImage(sitk.JoinSeries(images), str(file))
    series = read_series(file, file.name)
    assert series.code == "NOT_3D"
    assert series.unused is not None
    assert "not a 3-D volume" in series.unused


def test_one_volume_in_a_fourth_dimension_is_three_dimensional(tmp_path: Path) -> None:
    file = tmp_path / "T2.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(np.arange(24.0).reshape(2, 3, 4))]), str(file))
    series = read_series(file, file.name)
    assert series.unused is None
    assert load_volume(series).array.shape == (4, 3, 2)


def test_something_else_by_this_name_is_no_image(tmp_path: Path) -> None:
    file = tmp_path / "T1.nii.gz"
    file.write_bytes(b"not an image at all")
    assert read_series(file, file.name).code == "NOT_AN_IMAGE"
    file.write_bytes(b"")
    assert read_series(file, file.name).code == "NOT_AN_IMAGE"


def test_a_truncated_file_is_refused_when_its_voxels_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = written(tmp_path / "T1.nii.gz", rng.normal(size=(30, 30, 30)).astype(np.float32))
    file.write_bytes(file.read_bytes()[:20000])
    series = read_series(file, file.name)
    with pytest.raises(StudyError) as failure:
        load_volume(series)
    assert failure.value.code == "TRUNCATED"


def test_an_uncompressed_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "T1.nii", np.arange(27000, dtype=np.float32).reshape(30, 30, 30))
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(StudyError) as failure:
        load_volume(read_series(file, file.name))
    assert failure.value.code == "TRUNCATED"


@pytest.mark.parametrize(("value", "code"), [(np.nan, "NAN_VOXELS"), (7.0, "EMPTY_VOLUME")])
def test_nan_and_empty_volumes_are_refused(tmp_path: Path, value: float, code: str) -> None:
    array = np.full((4, 4, 4), 7.0, np.float32)
    array[0, 0, 0] = value
    file = written(tmp_path / "T1.nii.gz", array)
    with pytest.raises(StudyError) as failure:
        load_volume(read_series(file, file.name))
    assert failure.value.code == code


def patched(file: Path, at: int, layout: str, *values: float) -> Path:
    raw = bytearray(gzip.decompress(file.read_bytes()))
    raw[at : at + struct.calcsize(layout)] = struct.pack(layout, *values)
    file.write_bytes(gzip.compress(bytes(raw)))
    return file


def test_an_affine_that_cannot_be_inverted_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "T1.nii.gz", np.ones((4, 4, 4), np.float32))
    patched(file, 252, "<2h", 0, 2)
    patched(file, 280, "<12f", 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0)
    assert read_series(file, file.name).code == "BAD_AFFINE"


def test_two_transforms_that_disagree_are_refused_since_left_would_be_a_guess(tmp_path: Path) -> None:
    file = written(tmp_path / "T1.nii.gz", np.ones((40, 40, 40), np.float32))
    good = read_series(file, file.name)
    assert good.unused is None
    patched(file, 280, "<12f", 1, 0, 0, -39, 0, -1, 0, 0, 0, 0, 1, 0)  # sform: mirrored against the qform
    patched(file, 252, "<2h", 1, 1)
    series = read_series(file, file.name)
    assert series.code == "TRANSFORMS_DISAGREE"
    assert series.unused is not None
    assert "left" in series.unused


@pytest.mark.parametrize(
    ("at", "layout", "values", "code"), [(108, "<f", [np.nan], "NOT_AN_IMAGE"), (112, "<2f", [1e38, 0.0], "NAN_VOXELS")]
)
def test_a_damaged_header_is_refused_and_no_bug(tmp_path: Path, at: int, layout: str, values: list[float], code: str) -> None:
    file = written(tmp_path / "T1.nii.gz", np.arange(64, dtype=np.float32).reshape(4, 4, 4) * 1000)
    patched(file, at, layout, *values)
    series = read_series(file, file.name)
    if series.unused is None:
        with pytest.raises(StudyError) as failure:
            load_volume(series)
        assert failure.value.code in (code, "NOT_AN_IMAGE")


def test_an_sform_that_contradicts_the_voxel_size_is_refused_since_the_head_would_shrink(tmp_path: Path) -> None:
    file = written(tmp_path / "T1.nii.gz", np.ones((40, 40, 40), np.float32))
    patched(file, 252, "<2h", 0, 1)
    patched(file, 280, "<12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    assert read_series(file, file.name).unused is None
    patched(file, 280, "<12f", 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 4, 0)
    series = read_series(file, file.name)
    assert series.code == "TRANSFORMS_DISAGREE"
    assert "how large" in str(series.unused)


def test_a_name_that_is_no_utf8_is_read_like_any_other(tmp_path: Path) -> None:
    plain = written(tmp_path / "T1.nii.gz", np.arange(64, dtype=np.float32).reshape(4, 4, 4))
    odd = plain.rename(tmp_path / os.fsdecode(b"T1_\xe4.nii.gz"))
    series = read_series(odd, "T1_?.nii.gz")
    assert series.unused is None
    assert load_volume(series).array.max() == 63
