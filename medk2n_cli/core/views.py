"""What a reader looks at: inputs, results and expected errors on one axial grid, each with the window it is shown in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality

Image = NDArray[np.float16]
_WINDOW_PERCENTILE, _TISSUE_PERCENTILE, _ABOVE_TISSUE = 99.5, 70.0, 1.8


@dataclass(frozen=True, eq=False)
class Views:
    """Everything on the aligned grid: i to the left, j to posterior, k to superior; the network's scale, half precision.

    Attributes:
        grid: 1 mm in plane; slices as acquired.
        head: (I, J, K) bool.
        inputs, targets, errors: (I, J, K) by modality; `errors` is the expected absolute error of each target.
        truths: acquired images of targets, where there are any (an audit).

    Raises:
        ValueError: an array is not on the grid.
    """

    grid: Grid
    head: NDArray[np.bool_]
    inputs: Mapping[Modality, Image]
    targets: Mapping[Modality, Image]
    errors: Mapping[Modality, Image]
    truths: Mapping[Modality, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inputs", "targets", "errors", "truths"):
            held = getattr(self, name)
            for modality, array in held.items():
                if array.shape != self.grid.shape:
                    raise ValueError(f"{name} {modality.value} is {array.shape}, the grid is {self.grid.shape}")
            object.__setattr__(self, name, MappingProxyType(dict(held)))

    def window(self, image: Image) -> float:
        """The value shown white (0 is black): the head's 99.5th percentile, but no more than brain needs: fat outshines it."""
        inside = image[self.head]
        if not inside.size:
            return 1.0
        tissue, top = np.percentile(inside.astype(np.float32), [_TISSUE_PERCENTILE, _WINDOW_PERCENTILE])
        return max(float(min(top, _ABOVE_TISSUE * tissue)), 1e-3)

    def slices(self, count: int) -> list[int]:
        """At most `count` slice numbers spread evenly through the head, from inferior to superior."""
        used = np.flatnonzero(self.head.any((0, 1)))
        if not used.size:
            return []
        margin = 0.06 * (used[-1] - used[0])
        return sorted({round(float(k)) for k in np.linspace(used[0] + margin, used[-1] - margin, count)})

    def centre(self) -> tuple[int, int, int]:
        """Index of the middle of the head along each axis."""
        spans = [np.flatnonzero(self.head.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        i, j, k = (int((s[0] + s[-1]) // 2) if s.size else n // 2 for s, n in zip(spans, self.grid.shape, strict=True))
        return i, j, k
