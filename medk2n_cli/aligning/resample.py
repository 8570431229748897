"""One volume onto another grid, without aliasing and without inventing resolution."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.volumes import Volume

_FWHM = 2.355  # of a Gaussian, in standard deviations


def resample(volume: Volume, grid: Grid, transform: sitk.Transform | None = None) -> Volume:
    """`volume` on `grid`; where `grid` is coarser, voxels are averaged over the new voxel first.

    transform: maps points of `grid` to points of `volume` (ITK's convention); None: they share their place.
    """
    if transform is None and volume.grid.same_place(grid):
        return Volume(volume.array, grid, volume.units)
    image = itk.to_image(volume.array, volume.grid)
    sigma = smoothing(volume.grid, grid)
    for axis, mm in enumerate(sigma):
        if mm > 0.1 * volume.grid.spacing[axis]:
            image = sitk.RecursiveGaussian(image, float(mm), False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    moved = sitk.Resample(
        image,
        list(grid.shape),
        transform or sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkLinear,
        grid.origin.tolist(),
        grid.spacing,
        grid.direction.ravel().tolist(),
        0.0,
        sitk.sitkFloat32,
    )
    return Volume(itk.to_array(moved), grid, volume.units)


def smoothing(source: Grid, target: Grid) -> list[float]:
    """Standard deviation in mm along each axis of `source` that turns its voxels into `target`'s."""
    along = np.abs(source.direction.T @ target.direction)  # cosine between axes
    wanted = along @ np.array(target.spacing)
    return [float(np.sqrt(max(0.0, w * w - s * s)) / _FWHM) for w, s in zip(wanted, source.spacing, strict=True)]
