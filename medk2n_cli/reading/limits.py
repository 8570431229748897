"""How much a file may ask for: what its header claims is compared with what a head can be, and with what the file can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.study import Series

# 1 GiB as float32. A head at 0.5 mm is 2**27; at 0.4 mm, the finest in vivo, a little over this half.
MAX_VOXELS = 2**28
_MAX_MM3 = 2.0**28  # the network's grid has voxels of 1 mm, so the box obeys the same limit
_MAX_EDGE_MM, _MIN_EDGE_MM = 2000.0, 1.0  # a scanner's table, and a thousandth of a head
_ANY = 2**26  # bytes that even the smallest file may unpack to
# Deflate packs nothing but zeros 1032 times; a noiseless head that fills a hundredth of its field, 170 times.
_PACKED = 200


def grid_problem(shape: Sequence[int], spacing: NDArray[np.float64]) -> tuple[str, str] | None:
    """Why no head has this grid, as (code, reason), or None: voxels along each axis, and their distances in mm."""
    said = " x ".join(str(n) for n in shape)
    if min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        return "TOO_LARGE", f"{said} voxels are none of a head: at most {MAX_VOXELS / 1e6:.0f} million are read"
    edges = np.array(shape) * np.asarray(spacing, np.float64)
    if not (edges.min() > _MIN_EDGE_MM and edges.max() < _MAX_EDGE_MM and float(np.prod(edges)) < _MAX_MM3):
        box = " x ".join(f"{e:.3g}" for e in edges)
        return "BAD_SPACING", f"its spacing makes it {box} mm large, which is no head"
    return None


def holds(stored: int, claimed: int) -> bool:
    """Whether a compressed file of `stored` bytes can hold an image of `claimed` bytes."""
    return claimed <= max(_ANY, _PACKED * stored)


def unreachable(series: Series, failure: OSError) -> StudyError:
    """The error for a file that was there when the folder was scanned."""
    if isinstance(failure, FileNotFoundError):
        return series.unreadable("VANISHED", "a file of it is no longer there")
    return series.unreadable("READ_FAILED", f"the system cannot read a file of it ({failure.strerror or 'no reason given'})")
