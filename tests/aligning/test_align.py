"""Left stays left: the head is a formula, so every orientation, slice order and handedness must show the same patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medk2n_cli.aligning.align import Alignment, align
from medk2n_cli.aligning.choose import choose_reference, output_grid
from medk2n_cli.aligning.lift import lifted
from medk2n_cli.aligning.register import register
from medk2n_cli.aligning.resample import resample, smoothing
from medk2n_cli.core.errors import RequestError, StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume
from medk2n_cli.packing.pack import normalised
from tests import phantom
from tests.core.test_geometry import rotation

PLANES = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": rotation(0.3, -0.2, 0.4),
}


def head(modality: Modality, grid: Grid, move: np.ndarray | None = None) -> Volume:
    return Volume(phantom.volume(modality, grid, move), grid)


def where_is_the_mark(volume: Volume) -> np.ndarray:
    """Centre of the brightest ball: the T2 phantom's mark is no brighter than its ventricle, the T1C's is."""
    bright = volume.array > 1250
    return volume.grid.to_lps(np.argwhere(bright).mean(0))


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, 1, -1), (-1, -1, -1)], ids=str)
@pytest.mark.parametrize("plane", PLANES)
def test_a_voxel_keeps_its_place(plane: str, flips: tuple[int, int, int]) -> None:
    grid = phantom.around(PLANES[plane] * np.array(flips), (1.5, 1.5, 3.0))
    study = align({Modality.T1C: head(Modality.T1C, grid)})
    assert np.allclose(where_is_the_mark(study.volumes[Modality.T1C]), phantom.MARK_LPS, atol=0.7)
    assert np.all(np.diag(study.grid.direction) > 0), "i runs to the left, j to posterior, k to superior"
    back = resample(study.volumes[Modality.T1C], output_grid(grid, "auto"))
    assert back.grid.same_place(grid)
    assert np.allclose(where_is_the_mark(back), phantom.MARK_LPS, atol=0.9)


@settings(max_examples=12, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.sampled_from(["axial", "coronal", "sagittal"]), st.sampled_from([1, -1]))
@example((0.0, 5e-324, 0.0), "axial", 1)  # a denormal number in a direction made every image black
def test_a_voxel_keeps_its_place_at_any_angle(angles: tuple[float, float, float], plane: str, hand: int) -> None:
    grid = phantom.around(rotation(*angles) @ PLANES[plane] * np.array([hand, 1, 1]), (2.0, 2.5, 3.0))
    study = align({Modality.T1C: head(Modality.T1C, grid)})
    assert np.allclose(where_is_the_mark(study.volumes[Modality.T1C]), phantom.MARK_LPS, atol=1.2)


def test_a_known_move_is_found_and_told() -> None:
    fixed, move = head(Modality.T1, phantom.axial((2.0, 2.0, 3.0))), np.array([4.0, -3.0, 2.0])
    moving = head(Modality.T2, phantom.axial((2.0, 2.0, 3.0)), move)
    found = register(fixed, moving, Modality.T2)
    assert found.transform is not None
    assert np.allclose(np.array(found.transform.TransformPoint((0.0, 0.0, 0.0))), move, atol=0.8)
    assert found.move.moved_mm == pytest.approx(np.linalg.norm(move), abs=0.8)
    assert found.move.how == "registered"


def test_what_is_aligned_already_is_left_alone() -> None:
    grid = phantom.axial((2.0, 2.0, 3.0))
    found = register(head(Modality.T1, grid), head(Modality.T2, grid), Modality.T2)
    assert found.transform is None
    assert found.move.moved_mm == 0.0


def test_fields_of_view_that_do_not_overlap_are_refused() -> None:
    grid = phantom.axial((4.0, 4.0, 4.0))
    affine = grid.affine.copy()
    affine[0, 3] += 500
    far = Volume(phantom.volume(Modality.T2, grid), Grid(grid.shape, affine))
    with pytest.raises(StudyError) as failure:
        align({Modality.T1: head(Modality.T1, grid), Modality.T2: far})
    assert failure.value.code == "NO_OVERLAP"


@pytest.mark.parametrize(("kept", "code"), [(0.75, None), (0.3, "PARTIAL_HEAD")])
def test_a_volume_that_shows_part_of_the_head_is_told_or_refused(kept: float, code: str | None) -> None:
    grid = phantom.axial((3.0, 3.0, 3.0))
    slices = int(grid.shape[2] * kept)
    part = Volume(phantom.volume(Modality.T2, grid)[..., :slices].copy(), Grid((*grid.shape[:2], slices), grid.affine))
    volumes = {Modality.T1: head(Modality.T1, grid), Modality.T2: part}
    if code is None:
        assert "covers only" in align(volumes, Alignment("T1", register=False)).moves[Modality.T2].note
    else:
        with pytest.raises(StudyError) as failure:
            align(volumes, Alignment("T1", register=False))
        assert failure.value.code == code


def test_no_register_trusts_the_files() -> None:
    grid = phantom.axial((4.0, 4.0, 4.0))
    volumes = {m: head(m, grid) for m in (Modality.T1, Modality.T2)}
    study = align(volumes, Alignment(register=False))
    assert study.moves[Modality.T2].how == "not registered"


def test_no_register_across_frames_of_reference_is_said() -> None:
    grid = phantom.axial((4.0, 4.0, 4.0))
    other = Grid(grid.shape, grid.affine, "1.2.4")
    volumes = {Modality.T1: head(Modality.T1, Grid(grid.shape, grid.affine, "1.2.3")), Modality.T2: head(Modality.T2, other)}
    assert "another frame of reference" in align(volumes, Alignment(register=False)).moves[Modality.T2].note
    assert align(volumes).moves[Modality.T2].note == ""


def test_the_finest_volume_is_the_reference_unless_another_is_asked_for() -> None:
    grids = {
        Modality.T1: phantom.axial((2.0, 2.0, 6.0)),
        Modality.T2: phantom.axial((2.0, 2.0, 3.0)),
    }
    assert choose_reference(grids) is Modality.T2
    assert choose_reference(grids, "T1") is Modality.T1
    with pytest.raises(RequestError, match="holds no FLAIR"):
        choose_reference(grids, "FLAIR")


def test_a_whole_head_and_a_stripped_brain_are_told_apart_by_the_picture() -> None:
    grid = phantom.axial((2.0, 2.0, 3.0))
    whole = align({Modality.T1: head(Modality.T1, grid)})
    inside = np.linalg.norm(phantom.points(grid) / np.array([70.0, 88.0, 78.0]), axis=-1) < 0.83
    brain = Volume(phantom.volume(Modality.T1, grid) * inside, grid)
    stripped = align({Modality.T1: brain})
    assert not whole.stripped
    assert stripped.stripped
    assert 0 < whole.deep.sum() < whole.head.sum()
    assert 0 < stripped.deep.sum() < stripped.head.sum()


def test_the_head_is_the_same_every_time_and_touches_no_corner() -> None:
    grid = phantom.axial((2.0, 2.0, 3.0))
    one, other = (align({Modality.T1: head(Modality.T1, grid)}) for _ in range(2))
    assert np.array_equal(one.head, other.head)
    assert not one.head[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_noise_is_no_head() -> None:
    grid = phantom.axial((4.0, 4.0, 4.0))
    rng = np.random.default_rng(1)
    speckle = (rng.random(grid.shape) > 0.97).astype(np.float32) * 100
    with pytest.raises(StudyError) as failure:
        align({Modality.T1: Volume(speckle, grid)})
    assert failure.value.code == "NO_HEAD"


def test_coarser_voxels_are_averages_of_finer_ones() -> None:
    fine, coarse = (
        Grid((40, 40, 40), np.eye(4)),
        Grid((10, 10, 10), np.array([[4, 0, 0, 1.5], [0, 4, 0, 1.5], [0, 0, 4, 1.5], [0, 0, 0, 1.0]])),
    )
    stripes = np.indices(fine.shape).sum(0) % 2 * 100.0
    inner = resample(Volume(stripes.astype(np.float32), fine), coarse).array[2:-2, 2:-2, 2:-2]
    assert np.allclose(inner, 50, atol=2)


@pytest.mark.parametrize("name", ["longitudinal_01_study1", "cross_sectional_19"])
def test_real_studies_are_aligned_within_what_a_patient_moves(open_ms: Path, name: str) -> None:
    from medk2n_cli.reading.scan import load, scan

    study = align(load(scan([open_ms / name]).chosen()))
    assert max(m.moved_mm for m in study.moves.values()) < 8
    assert study.stripped is name.startswith("cross")
    litres = study.head.sum() * np.prod(study.grid.spacing) / 1e6
    assert 0.9 < litres < 4


def part(volume: Volume, first: int, last: int) -> Volume:
    """Slices `first` to `last` of an axial volume, in their place."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_lps(np.array([0.0, 0.0, first]))
    array = volume.array[:, :, first:last]
    return Volume(array, Grid(array.shape, affine))


def test_a_contrast_that_misses_the_lower_head_looks_the_same_where_it_was_acquired() -> None:
    grid = phantom.axial((2.0, 2.0, 4.0))
    whole = {m: head(m, grid) for m in (Modality.T1, Modality.T2)}
    cut = whole | {Modality.T2: part(whole[Modality.T2], 14, grid.shape[2])}
    asked = Alignment(grid="T1", register=False)
    before, after = align(whole, asked), align(cut, asked)
    seen = after.volumes[Modality.T2].seen
    assert seen is not None
    assert 0.5 < after.volumes[Modality.T2].within(before.head).sum() / before.head.sum() < 0.9
    assert "covers only" in after.moves[Modality.T2].note
    images = [normalised(Modality.T2, s.volumes[Modality.T2], s.deep, before.head & seen) for s in (before, after)]
    assert np.abs(images[0] - images[1])[before.head & seen].max() < 0.1
    assert (after.volumes[Modality.T2].array[~seen] == 0).all()


def test_the_head_is_whole_where_only_one_of_many_inputs_shows_it() -> None:
    grid = phantom.axial((2.0, 2.0, 4.0))
    whole = {m: head(m, grid) for m in (Modality.T1, Modality.T1C, Modality.T2, Modality.FLAIR)}
    cut = {m: v if m is Modality.T1 else part(v, 7, grid.shape[2]) for m, v in whole.items()}
    asked = Alignment(grid="T1", register=False)
    before, after = (align(v, asked).head[:, :, :7] for v in (whole, cut))
    assert after.sum() > 0.95 * before.sum()


@pytest.mark.parametrize("masked", [False, True], ids=["air below zero", "air at zero"])
def test_z_scored_images_show_the_same_head(masked: bool) -> None:
    grid = phantom.axial((2.0, 2.0, 4.0))
    plain = head(Modality.T1, grid)
    inside = plain.array > 100
    scored = (plain.array - plain.array[inside].mean()) / plain.array[inside].std()
    before, after = align({Modality.T1: plain}), align({Modality.T1: Volume(scored * inside if masked else scored, grid)})
    assert (before.head ^ after.head).sum() < 0.04 * before.head.sum()
    assert before.stripped == after.stripped
    assert "below zero" in after.moves[Modality.T1].note
    assert before.moves[Modality.T1].note == ""


def test_noise_about_zero_and_negative_diffusivities_are_left_as_they_are() -> None:
    grid = phantom.axial((2.0, 2.0, 4.0))
    noisy = phantom.volume(Modality.T1, grid) + np.random.default_rng(1).normal(0, 15, grid.shape).astype(np.float32)
    assert lifted(Modality.T1, Volume(noisy, grid))[1] == ""
    assert lifted(Modality.ADC, Volume(noisy - 400, grid))[1] == ""


def slab(modality: Modality, slices: int, mm: float) -> Volume:
    """A few axial slices through the middle of the head."""
    grid = phantom.axial((2.0, 2.0, mm))
    affine = grid.affine.copy()
    affine[2, 3] = -mm * (slices - 1) / 2
    return head(modality, Grid((*grid.shape[:2], slices), affine))


@pytest.mark.parametrize("slices", [2, 3])
def test_a_few_slices_are_aligned_by_their_files(slices: int) -> None:
    study = align({Modality.T2: slab(Modality.T2, 2, 3.0), Modality.DWI: slab(Modality.DWI, slices, 2.0)})
    assert study.moves[Modality.DWI].how == "not registered"
    assert "too few slices" in study.moves[Modality.DWI].note


def test_slices_that_are_only_tilted_or_turned_are_not_blurred() -> None:
    flat = phantom.around(np.eye(3), (0.5, 0.5, 5.0))
    tilted = phantom.around(rotation(0.2, 0.0, 0.0), (0.5, 0.5, 5.0))
    assert max(smoothing(flat, tilted)[:2]) < 0.1
    cube = phantom.around(np.eye(3), (1.0, 1.0, 1.0))
    assert smoothing(cube, phantom.around(rotation(0.3, 0.5, 0.7), (1.0, 1.0, 1.0))) == pytest.approx([0.0] * 3, abs=1e-3)
    assert smoothing(cube, phantom.around(np.eye(3), (1.0, 1.0, 5.0)))[2] == pytest.approx(np.sqrt(24) / 2.355, rel=1e-3)
