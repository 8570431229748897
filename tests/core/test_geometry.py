from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medk2n_cli.core.geometry import Grid, axial_grid, iso_grid

angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
spacings = st.tuples(*[st.floats(0.4, 8.0)] * 3)
shapes = st.tuples(*[st.integers(2, 60)] * 3)
handedness = st.sampled_from([1.0, -1.0])


def rotation(a: float, b: float, c: float) -> np.ndarray:
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    affine = np.eye(4)
    axes = rotation(*draw(angles)) * np.array([1, 1, draw(handedness)])
    affine[:3, :3] = axes * draw(spacings)
    affine[:3, 3] = draw(arrays(float, 3, elements=st.floats(-300, 300)))
    return Grid(draw(shapes), affine)


@given(grids(), arrays(float, (5, 3), elements=st.floats(-50, 50)))
def test_index_to_patient_and_back_is_the_same_place(grid: Grid, index: np.ndarray) -> None:
    assert np.allclose(grid.to_index(grid.to_lps(index)), index, atol=1e-6)


@given(grids())
def test_the_axial_grid_covers_the_same_box_and_runs_to_left_posterior_superior(grid: Grid) -> None:
    axial = axial_grid(grid)
    assert np.allclose(axial.centre, grid.centre, atol=1e-6)
    assert np.all(np.diag(axial.direction) > 0)
    assert np.linalg.det(axial.direction) > 0
    assert np.allclose(axial.spacing[:2], 1.0)
    sizes = sorted(n * s for n, s in zip(axial.shape, axial.spacing, strict=True))
    wanted = sorted(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    assert np.allclose(sizes, wanted, atol=max(axial.spacing) / 2 + 0.51)


@given(grids())
def test_axial_axes_are_the_references_own_so_slices_stay_slices(grid: Grid) -> None:
    along = np.abs(axial_grid(grid).direction.T @ grid.direction)
    assert np.allclose(np.sort(along, axis=1), [[0, 0, 1]] * 3, atol=1e-6)


@given(grids())
def test_the_isotropic_grid_is_isotropic_around_the_same_centre(grid: Grid) -> None:
    iso = iso_grid(grid)
    assert np.allclose(iso.spacing, 1.0)
    assert np.allclose(iso.centre, grid.centre, atol=1e-6)


def test_two_known_and_different_frames_are_never_the_same_place() -> None:
    one, other = Grid((2, 2, 2), np.eye(4), "1.2.3"), Grid((2, 2, 2), np.eye(4), "1.2.4")
    assert not one.same_place(other)
    assert one.same_place(Grid((2, 2, 2), np.eye(4)))


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.full((4, 4), np.nan),
        np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
)
def test_a_flat_voxel_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError):
        Grid((2, 2, 2), affine)


def test_overlap_is_the_covered_share() -> None:
    grid, moved = Grid((10, 10, 10), np.eye(4)), np.eye(4)
    moved[0, 3] = 5.0
    assert grid.overlap(Grid((10, 10, 10), moved)) == pytest.approx(0.5)
    moved[0, 3] = 100.0
    assert grid.overlap(Grid((10, 10, 10), moved)) == 0.0
