from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medk2n_cli.aligning.align import align
from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelOutput, pilot_slices
from medk2n_cli.core.volumes import AlignedStudy, Volume
from medk2n_cli.packing.normalise import low_anchor, measure_scale, to_units
from medk2n_cli.packing.pack import cut, pack, put_back
from medk2n_cli.packing.unpack import _contributions
from tests import phantom


@pytest.fixture(scope="module")
def study() -> AlignedStudy:
    grid = phantom.axial((2.0, 2.0, 4.0))
    return align({m: Volume(phantom.volume(m, grid), grid) for m in (Modality.T1, Modality.T2)})


@pytest.mark.parametrize("modality", [m for m in Modality if m is not Modality.ADC])
@given(gain=st.floats(0.01, 100), offset=st.floats(-500, 500))
def test_the_arbitrary_scale_of_a_contrast_is_removed(modality: Modality, gain: float, offset: float) -> None:
    values = np.random.default_rng(0).gamma(4.0, 100, 4000).astype(np.float32)
    plain = measure_scale(modality, values).apply(values)
    other = (values * gain + offset).astype(np.float32)
    assert np.allclose(measure_scale(modality, other).apply(other), plain, atol=2e-2)


@pytest.mark.parametrize("modality", [Modality.T1, Modality.T2, Modality.FLAIR])
def test_the_anchors_are_where_the_documentation_says(modality: Modality) -> None:
    values = np.random.default_rng(0).gamma(4.0, 100, 4000).astype(np.float32)
    made = measure_scale(modality, values).apply(values)
    assert np.percentile(made, 50) == pytest.approx(0.5, abs=1e-3)
    assert np.percentile(made, 5) == pytest.approx(low_anchor(modality), abs=1e-3)


@pytest.mark.parametrize(("unit", "factor"), [("mm2/s", 1.0), ("1e-3 mm2/s", 1e3), ("1e-6 mm2/s", 1e6)])
def test_adc_keeps_its_physical_scale_whatever_its_unit(unit: str, factor: float) -> None:
    tissue = np.full(100, 8e-4 * factor, np.float32)
    scale = measure_scale(Modality.ADC, tissue)
    assert unit in scale.note
    assert to_units(Modality.ADC, scale.apply(tissue))[0] == pytest.approx(800, rel=1e-3)


def test_a_flat_volume_cannot_be_normalised(study: AlignedStudy) -> None:
    flat = Volume(np.where(study.head, 5.0, 0.0).astype(np.float32), study.grid)
    broken = AlignedStudy(study.grid, {Modality.T1: flat}, study.head.copy(), study.deep.copy(), False, Modality.T1)
    with pytest.raises(StudyError, match="flat") as failure:
        pack(broken)
    assert failure.value.code == "FLAT_VOLUME"


def test_slices_are_cut_to_the_head_in_multiples_of_sixteen(study: AlignedStudy) -> None:
    packed = pack(study)
    k, depth, height, width = packed.input.stack.shape
    assert (k, height % 16, width % 16) == (2, 0, 0)
    assert depth == study.head.any((0, 1)).sum()
    assert packed.input.stack[:, :, -1].max() == 0 or packed.box.pad_j == 0


def test_what_is_cut_goes_back_where_it_was(study: AlignedStudy) -> None:
    packed = pack(study)
    inside = np.where(study.head, study.volumes[Modality.T1].array, 0)
    assert np.array_equal(put_back(cut(inside, packed.box), packed.box, study.grid.shape), inside)


def test_rows_run_to_posterior_and_columns_to_left(study: AlignedStudy) -> None:
    marked = np.zeros(study.grid.shape, np.float32)
    i, j, k = np.round(study.grid.to_index(phantom.MARK_LPS)).astype(int)
    marked[i, j, k] = 1
    packed = pack(study)
    depth, row, column = np.argwhere(cut(marked, packed.box))[0]
    middle = np.array(packed.input.stack.shape[1:]) / 2
    assert column > middle[2], "the mark is on the left"
    assert row < middle[1], "the mark is anterior"
    assert depth > middle[0], "the mark is superior"


def test_the_background_is_exactly_zero(study: AlignedStudy) -> None:
    packed = pack(study)
    assert packed.input.stack[:, ~(cut(study.head.astype(np.float32), packed.box) > 0)].max() == 0


def test_the_reported_numbers_are_those_that_decided_the_gate() -> None:
    """In 40 slices of which the outermost, which do not decide, say the contrary."""
    inner = np.isin(np.arange(40), pilot_slices(40))[:, None, None]
    weight = np.where(inner, [[[0.6, 0.55]]], [[[0.6, 0.45]]]).astype(np.float32)
    level, ones = np.full((40, 1, 2), 0.5, np.float32), np.ones((40, 1, 2), np.float32)
    image, named = np.zeros((1, 40, 16, 16), np.float32), np.full((40, 2, 6), 1 / 6, np.float32)
    first = np.zeros(1, np.int64)
    answer = ModelOutput(
        (Modality.FLAIR,), image, image, weight, level, ones, level, level, first, level[..., 0], first, named[:, :1], named
    )
    key, auxiliary = _contributions(answer, (Modality.T1, Modality.T2), 0)
    assert key.key
    assert np.median(weight[:, 0, 1]) < 0.5, "all slices together would have closed it"
    assert auxiliary.gate == 1
    assert auxiliary.w_global == pytest.approx(0.55)
    assert auxiliary.w_global >= auxiliary.threshold
