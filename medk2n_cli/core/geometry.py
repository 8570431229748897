"""Where a voxel is. One convention for the whole program, written only here.

Arrays are ``[i, j, k]``; the affine maps the index ``(i, j, k, 1)`` to millimetres in LPS
(left, posterior, superior positive: the DICOM patient coordinate system, PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels in the patient.

    Attributes:
        shape: voxels along i, j, k; each at least 1.
        affine: (4, 4) float64, index -> LPS mm; invertible, last row 0 0 0 1.
        frame: frame of reference UID, or None where the file format has none.

    Raises:
        ValueError: the shape is not three positive sizes, or the affine cannot be inverted.
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame: str | None = None

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid has three positive sizes, not {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.allclose(affine[3], [0, 0, 0, 1]):
            raise ValueError("the affine is not a finite 4 x 4 matrix with last row 0 0 0 1")
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        if edges.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-3:
            raise ValueError("the affine is not invertible: the voxels are flat")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def direction(self) -> FloatArray:
        """(3, 3) unit vectors of the i, j, k axes in LPS, as columns.

        What is no angle (1e-12 turns a head by less than an atom) is 0: ITK inverts a matrix with a denormal number wrongly.
        """
        vectors = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return np.asarray(np.where(np.abs(vectors) < 1e-12, 0.0, vectors))

    @property
    def origin(self) -> FloatArray:
        """(3,) centre of voxel (0, 0, 0) in LPS mm."""
        return self.affine[:3, 3]

    @property
    def centre(self) -> FloatArray:
        """(3,) centre of the grid in LPS mm."""
        return self.to_lps((np.array(self.shape) - 1) / 2)

    @property
    def plane(self) -> str:
        """The plane the k axis is most normal to: sagittal, coronal or axial."""
        return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(self.direction[:, 2])))]

    def to_lps(self, index: NDArray[np.floating]) -> FloatArray:
        """(..., 3) index coordinates -> (..., 3) LPS mm."""
        return np.asarray(np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, lps: NDArray[np.floating]) -> FloatArray:
        """(..., 3) LPS mm -> (..., 3) index coordinates, fractional."""
        return np.asarray((np.asarray(lps) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def same_place(self, other: Grid) -> bool:
        """Whether both grids put every voxel in the same place; two known, different frames never do."""
        if self.frame and other.frame and self.frame != other.frame:
            return False
        return self.shape == other.shape and bool(np.abs(self.affine - other.affine).max() < _SAME_PLACE_MM)

    def corners(self) -> FloatArray:
        """(8, 3) the outer corners (voxel edges, not centres) in LPS mm."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        return self.to_lps(np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]]))

    def overlap(self, other: Grid) -> float:
        """Share of this grid's bounding box (LPS aligned) that the other's covers, 0..1."""
        a, b = self.corners(), other.corners()
        low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
        return float(np.prod(np.clip(high - low, 0, None)) / np.prod(a.max(0) - a.min(0)))


def axial_grid(reference: Grid, in_plane_mm: float = 1.0) -> Grid:
    """The grid the network works on: the reference's box, read axially.

    Axes are the reference's own, permuted and flipped so that i runs to the left, j to posterior and k to
    superior as nearly as they can (no rotation, so acquired slices stay slices); `in_plane_mm` along i and j,
    the reference's own spacing along k but never finer than `in_plane_mm`.
    """
    order = _axes_nearest_lps(reference.direction)
    unit = reference.direction[:, order] * np.sign(np.diag(reference.direction[:, order]))
    extent = (np.array(reference.shape) * reference.spacing)[order]
    spacing = np.array([in_plane_mm, in_plane_mm, max(in_plane_mm, reference.spacing[order[2]])])
    shape = np.maximum(1, np.round(extent / spacing)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = unit * spacing
    affine[:3, 3] = reference.centre - affine[:3, :3] @ ((shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine, reference.frame)


def iso_grid(reference: Grid, mm: float = 1.0) -> Grid:
    """Like `axial_grid`, with `mm` along all three axes."""
    axial = axial_grid(reference, mm)
    slices = max(1, round(axial.shape[2] * axial.spacing[2] / mm))
    affine = axial.affine.copy()
    affine[:3, 2] *= mm / axial.spacing[2]
    shape = (axial.shape[0], axial.shape[1], slices)
    affine[:3, 3] = axial.centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine, reference.frame)


def _axes_nearest_lps(direction: FloatArray) -> list[int]:
    """For L, P, S in turn: which grid axis runs along it, each axis used once (best total alignment)."""
    candidates = [(a, b, 3 - a - b) for a in range(3) for b in range(3) if a != b]
    best = max(candidates, key=lambda o: sum(abs(direction[axis, o[axis]]) for axis in range(3)))
    return list(best)
