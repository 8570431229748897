"""A head that is a formula: any grid can sample it, so every study made of it is consistent by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality

# skin, skull, brain rim (grey), white core, ventricle, mark (left, anterior, superior: never symmetric)
SIGNALS: dict[Modality, tuple[float, ...]] = {
    Modality.T1: (900, 60, 420, 600, 150, 800),
    Modality.T1C: (900, 60, 430, 610, 160, 1500),
    Modality.T2: (500, 50, 480, 330, 1100, 900),
    Modality.FLAIR: (450, 50, 420, 360, 60, 900),
    Modality.DWI: (80, 30, 400, 350, 90, 950),
    Modality.ADC: (300, 50, 850, 750, 3000, 450),
}
MARK_LPS = np.array([28.0, -30.0, 22.0])
_AXES = np.array([70.0, 88.0, 78.0])


def sample(modality: Modality, lps: NDArray[np.float64]) -> NDArray[np.float32]:
    """(..., 3) mm -> (...) intensity."""
    skin, skull, grey, white, ventricle, mark = SIGNALS[modality]
    radius = np.linalg.norm(lps / _AXES, axis=-1)
    value = np.zeros(radius.shape)
    for limit, level in ((1.0, skin), (0.95, skull), (0.83, grey), (0.72, white)):
        value = np.where(radius < limit, level, value)
    value = np.where((radius < 0.72) & (radius > 0.55) & (np.sin(lps[..., 0] / 7) * np.sin(lps[..., 2] / 9) > 0.3), grey, value)
    value = np.where(np.linalg.norm(lps / [9, 26, 14], axis=-1) < 1, ventricle, value)
    value = np.where(np.linalg.norm(lps - MARK_LPS, axis=-1) < 9, mark, value)
    return value.astype(np.float32)


def points(grid: Grid) -> NDArray[np.float64]:
    """(I, J, K, 3) LPS mm of every voxel centre."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    return grid.to_lps(index.astype(float))


def volume(modality: Modality, grid: Grid, move: NDArray[np.float64] | None = None, seed: int = 0) -> NDArray[np.float32]:
    """The head on `grid`, moved by `move` mm, with a little noise."""
    at = points(grid) - (0 if move is None else move)
    noise = np.random.default_rng(seed + list(Modality).index(modality)).normal(0, 6, grid.shape)
    return np.abs(sample(modality, at) + noise).astype(np.float32)


def axial(spacing: tuple[float, float, float] = (2.0, 2.0, 4.0)) -> Grid:
    """A plain axial grid around the head."""
    return around(np.diag([1.0, 1.0, 1.0]), spacing)


def around(direction: NDArray[np.float64], spacing: tuple[float, float, float]) -> Grid:
    """A grid with these axes (columns, LPS) that holds the head."""
    extent = np.abs(direction.T @ np.diag(_AXES)).sum(1) * 2 + 12
    shape = tuple(int(n) for n in np.ceil(extent / spacing))
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def write(file: Path, array: NDArray[np.generic], grid: Grid) -> Path:
    """As NIfTI."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk.to_image(array, grid), str(file))
    return file


def write_study(folder: Path, modalities: tuple[Modality, ...], grid: Grid | None = None) -> Path:
    """``T1.nii.gz`` and so on, int16, all on one grid."""
    grid = grid or axial()
    for modality in modalities:
        write(folder / f"{modality.value}.nii.gz", volume(modality, grid).astype(np.int16), grid)
    return folder
