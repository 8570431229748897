"""One volume onto another grid, without aliasing and without inventing resolution."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.volumes import Volume

_FWHM = 2.355  # of a Gaussian, in standard deviations
_RECURSION = 4  # voxels that ITK's recursive filter needs along its axis


def resample(volume: Volume, grid: Grid, transform: sitk.Transform | None = None) -> Volume:
    """`volume` on `grid`; where `grid` is coarser, voxels are averaged over the new voxel first. Beyond its field of view: 0.

    transform: maps points of `grid` to points of `volume` (ITK's convention); None: they share their place.
    """
    if transform is None and volume.grid.same_place(grid):
        return Volume(volume.array, grid, volume.units, volume.seen)
    image = itk.to_image(volume.array, volume.grid)
    sigma = smoothing(volume.grid, grid)
    for axis, mm in enumerate(sigma):
        if mm > 0.1 * volume.grid.spacing[axis]:
            image = _blurred(image, axis, float(mm))
    seen = np.ones(volume.grid.shape, np.float32) if volume.seen is None else volume.seen.astype(np.float32)
    reached = _moved(itk.to_image(seen, volume.grid), grid, transform) > 0.5
    moved = _moved(image, grid, transform)
    if reached.all():
        return Volume(moved, grid, volume.units)
    return Volume(moved * reached, grid, volume.units, reached)


def _blurred(image: sitk.Image, axis: int, mm: float) -> sitk.Image:
    if image.GetSize()[axis] >= _RECURSION:
        long: sitk.Image = sitk.RecursiveGaussian(image, mm, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
        return long
    blurred: sitk.Image = sitk.DiscreteGaussian(image, [mm * mm if a == axis else 0.0 for a in range(3)])
    return blurred


def _moved(image: sitk.Image, grid: Grid, transform: sitk.Transform | None) -> NDArray[np.float32]:
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
    return itk.to_array(moved)


def smoothing(source: Grid, target: Grid) -> list[float]:
    """Standard deviation in mm along each axis of `source` that turns its voxels into `target`'s.

    What a target's voxel is wider than the source's is measured along the target's axes and handed to the source's:
    a voxel that is only turned, or a thick slice that is only tilted, is blurred no further.
    """
    share = (source.direction.T @ target.direction) ** 2  # squared cosines, (source axis, target axis)
    lacking = np.maximum(np.square(target.spacing) - np.square(source.spacing) @ share, 0)
    return [float(mm) for mm in np.sqrt(share @ lacking) / _FWHM]
