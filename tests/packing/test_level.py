from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medk2n_cli.aligning.align import align
from medk2n_cli.aligning.resample import resample
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelOutput
from medk2n_cli.core.volumes import Volume
from medk2n_cli.packing.level import MOST, level_of, levelled
from medk2n_cli.packing.normalise import measure_scale
from medk2n_cli.packing.pack import cut, pack
from medk2n_cli.packing.unpack import _far_off
from medk2n_cli.pipeline import synthesize
from medk2n_cli.reading.scan import load, scan
from tests import phantom

T1, T1C, T2, FLAIR, DWI, ADC = Modality
DEEP = np.ones((2, 16, 16), bool)
TISSUE = np.random.default_rng(0).gamma(4.0, 0.12, DEEP.shape).astype(np.float32)


def output_of(want: tuple[Modality, ...]) -> ModelOutput:
    n, pair = len(want), np.full((2, len(want), 1), 0.5, np.float32)
    made = np.stack([TISSUE] * n)
    numbers = np.zeros(n, np.int64)
    quality, named = np.full((2, n), 0.5, np.float32), np.full((2, n, 6), 1 / 6, np.float32)
    return ModelOutput(want, made, made / 10, pair, pair, pair, pair, pair, numbers, quality, numbers, named, named[:, :1])


@given(factor=st.floats(0.6, 1.7))
def test_whatever_the_networks_level_the_median_comes_to_its_place(factor: float) -> None:
    made = TISSUE / np.median(TISSUE) * np.float32(0.5 * factor)
    assert np.median(made * level_of(T2, made, DEEP)) == pytest.approx(0.5, abs=1e-3)


def test_a_truth_is_left_as_it_is() -> None:
    truth = measure_scale(FLAIR, TISSUE.ravel()).apply(TISSUE)
    assert level_of(FLAIR, truth, DEEP) == pytest.approx(1.0, abs=1e-3)


def test_only_the_deep_head_counts() -> None:
    scalp = TISSUE.copy()
    deep = DEEP.copy()
    scalp[:, :5], deep[:, :5] = 2.0, False
    assert level_of(T1, scalp, deep) == level_of(T1, TISSUE, deep)


@pytest.mark.parametrize(("made", "factor"), [(TISSUE * 0, MOST), (TISSUE * 9, 1 / MOST)])
def test_an_image_far_off_is_changed_by_no_more_than_a_factor_of_two(made: np.ndarray, factor: float) -> None:
    assert level_of(T1, made, DEEP) == factor


def test_adc_keeps_its_physical_scale_and_no_deep_head_no_level() -> None:
    assert level_of(ADC, TISSUE * 3, DEEP) == 1
    assert level_of(T1, TISSUE * 3, ~DEEP) == 1


def test_expected_errors_go_with_their_images_and_each_target_has_its_own_factor() -> None:
    came = output_of((T2, ADC))
    made = levelled(came, DEEP)
    assert made.level[1] == 1 != made.level[0]
    for n, factor in enumerate(made.level):
        assert np.allclose(made.synthesised[n], came.synthesised[n] * factor)
        assert np.allclose(made.expected_error[n], came.expected_error[n] * factor)
    assert made.synthesised.dtype == np.float32
    with pytest.raises(ValueError, match="second"):
        levelled(made, DEEP)


def test_normal_tissue_is_near_500_in_every_contrast_that_comes_out(tmp_path: Path) -> None:
    """With the weights that ship."""
    made = synthesize(phantom.write_study(tmp_path / "s", (T1, T2)), "FLAIR,T1C")
    aligned = align(load(scan([tmp_path / "s"]).chosen()))
    for target in made.report.targets:
        volume = resample(made.volumes[target.modality], aligned.grid)
        assert np.median(volume.array[aligned.deep]) == pytest.approx(500, abs=10)
        assert 0.5 <= target.level <= 2


@pytest.mark.parametrize(
    ("level", "words"), [(0.5, "2 times or more"), (0.625, "1.6 times as"), (2.0, "0.5 times or less"), (1.0, ""), (0.75, "")]
)
def test_a_level_far_off_is_a_reason_for_doubt(level: float, words: str) -> None:
    said = " ".join(_far_off(level))
    assert words in said
    assert bool(said) == bool(words)


def test_the_deep_head_is_cut_as_the_images_are(tmp_path: Path) -> None:
    grid = phantom.axial((2.0, 2.0, 4.0))
    study = align({T1: Volume(phantom.volume(T1, grid), grid)})
    packed = pack(study)
    assert packed.deep.shape == packed.input.stack.shape[1:]
    assert packed.deep.sum() == study.deep.sum()
    assert np.array_equal(packed.deep, cut(study.deep.astype(np.float32), packed.box) > 0)
