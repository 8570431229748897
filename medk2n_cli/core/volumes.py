"""Voxels with their place: one volume, and a study brought onto one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality

# The deep head is what normalisation measures: scalp, skull and neck do not count, and whole and stripped heads agree.
DEEP_WHOLE_MM, DEEP_STRIPPED_MM = 25.0, 10.0
HEAD_HEIGHT_MM = 165.0  # below this far from the top of a whole head there is neck


def read_only(array: NDArray[np.generic]) -> None:
    """Freeze an array in place: nouns do not change after they are built."""
    array.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Volume:
    """(I, J, K) float32 voxels on a grid.

    Attributes:
        seen: (I, J, K) bool, where the acquired field of view reached; None: everywhere. Elsewhere the array holds 0.

    Raises:
        ValueError: a shape is not the grid's, or a value is not finite.
    """

    array: NDArray[np.float32]
    grid: Grid
    units: str = "arbitrary"
    seen: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        array = np.asarray(self.array, dtype=np.float32)
        if array.shape != self.grid.shape:
            raise ValueError(f"array is {array.shape}, its grid is {self.grid.shape}")
        if self.seen is not None and self.seen.shape != array.shape:
            raise ValueError(f"the field of view is {self.seen.shape}, the array {array.shape}")
        if not np.isfinite([array.min(), array.max()]).all():  # a mask of all voxels would cost a quarter of their memory
            raise ValueError("a volume holds finite values only")
        read_only(array)
        object.__setattr__(self, "array", array)

    def within(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The part of `mask` that the field of view reached."""
        return mask if self.seen is None else mask & self.seen


@dataclass(frozen=True)
class Move:
    """How registration moved one modality onto the reference.

    Attributes:
        moved_mm: how far the centre of the head moved, mm.
        rotated_deg: rotation angle, degrees.
        how: "reference", "registered", "kept" (registration found nothing to gain) or "not registered".
        note: a sentence where a reader should know more, else empty.
    """

    moved_mm: float
    rotated_deg: float
    how: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class AlignedStudy:
    """Every input on one axial grid, 1 mm in plane.

    Attributes:
        grid: the common grid.
        volumes: by modality; all on `grid`, at least one.
        head: (I, J, K) bool, inside the head (or the brain where the skull was stripped).
        deep: (I, J, K) bool, the part of the head that normalisation measures (see `packing.normalise`).
        stripped: whether the skull had been removed.
        reference: the modality whose place was kept.
        moves: by modality.

    Raises:
        ValueError: a volume is on another grid, or a mask has another shape.
    """

    grid: Grid
    volumes: Mapping[Modality, Volume]
    head: NDArray[np.bool_]
    deep: NDArray[np.bool_]
    stripped: bool
    reference: Modality
    moves: Mapping[Modality, Move] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.volumes:
            raise ValueError("an aligned study has at least one volume")
        for modality, volume in self.volumes.items():
            if not volume.grid.same_place(self.grid):
                raise ValueError(f"{modality.value} is not on the common grid")
        for mask in (self.head, self.deep):
            if mask.shape != self.grid.shape:
                raise ValueError(f"mask is {mask.shape}, the grid is {self.grid.shape}")
            read_only(mask)
        object.__setattr__(self, "volumes", MappingProxyType(dict(self.volumes)))
        object.__setattr__(self, "moves", MappingProxyType(dict(self.moves)))
