from __future__ import annotations

import numpy as np
import pytest

from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput
from medk2n_cli.core.volumes import Volume

GRID = Grid((2, 3, 4), np.eye(4))


def test_a_volume_must_fit_its_grid() -> None:
    with pytest.raises(ValueError, match=r"array is \(3, 2, 4\), its grid is \(2, 3, 4\)"):
        Volume(np.zeros((3, 2, 4), np.float32), GRID)


def test_a_volume_cannot_be_changed() -> None:
    volume = Volume(np.zeros((2, 3, 4), np.float32), GRID)
    with pytest.raises(ValueError):
        volume.array[0, 0, 0] = 1


def test_nan_is_no_intensity() -> None:
    with pytest.raises(ValueError, match="finite"):
        Volume(np.full((2, 3, 4), np.nan, np.float32), GRID)


def test_outer_slices_stand_in_for_their_missing_neighbours() -> None:
    stack = np.arange(3, dtype=np.float32)[None, :, None, None] / 4 * np.ones((1, 3, 16, 16), np.float32)
    first = ModelInput(stack, (Modality.T1,)).slices(np.array([0]))
    assert first.shape == (1, 1, 3, 16, 16)
    assert first[0, 0, :, 0, 0].tolist() == [0.0, 0.0, 0.25]


@pytest.mark.parametrize("shape", [(1, 3, 15, 16), (2, 3, 16, 16), (1, 0, 16, 16)])
def test_network_input_of_the_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        ModelInput(np.zeros(shape, np.float32), (Modality.T1,))
