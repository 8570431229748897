"""The only place where our [i, j, k] meets ITK's [k, j, i]. Both sides are in LPS millimetres."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.volumes import Volume


@contextmanager
def readable_path(file: Path) -> Iterator[str]:
    """A path that ITK can take: a name that is no UTF-8 ends the whole process there, so such a file is read by a link."""
    if _is_utf8(file):
        yield str(file)
        return
    with tempfile.TemporaryDirectory(prefix="medk2n-") as folder:
        ending = file.name[file.name.lower().rfind(".nii") :] if ".nii" in file.name.lower() else file.suffix
        link = Path(folder, f"image{ending}")
        link.symlink_to(file.absolute())
        yield str(link)


def _is_utf8(file: Path) -> bool:
    try:
        str(file).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a 3-D image.

    Raises:
        ValueError: the image's direction cannot be inverted.
    """
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Grid((i, j, k), affine)


def to_image(array: NDArray[np.generic], grid: Grid) -> sitk.Image:
    """(I, J, K) array on `grid` -> ITK image of the same pixel type (bool becomes uint8)."""
    plain = array.astype(np.uint8) if array.dtype == np.bool_ else array
    image = sitk.GetImageFromArray(np.ascontiguousarray(plain.T))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def to_array(image: sitk.Image) -> NDArray[np.float32]:
    """3-D ITK image -> (I, J, K) float32."""
    return np.ascontiguousarray(sitk.GetArrayViewFromImage(image).T, dtype=np.float32)


def read_volume(file: Path) -> Volume:
    """A 3-D image file as a volume."""
    with readable_path(file) as path:
        image = sitk.ReadImage(path)
    return Volume(to_array(image), grid_of(image), "")


def to_lps_array(file: Path) -> NDArray[np.float32]:
    """A 3-D image file, its axes permuted and flipped to run to L, P, S -> (I, J, K) float32."""
    with readable_path(file) as path:
        return to_array(sitk.DICOMOrient(sitk.ReadImage(path), "LPS"))
