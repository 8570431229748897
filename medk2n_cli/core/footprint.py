"""How much memory a study will take, from its headers: said before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medk2n_cli.core.geometry import Grid, axial_grid
from medk2n_cli.core.modality import Modality

# Measured on a 512 x 512 x 400 study, four contrasts in, two out: 2.09 GB while reading and registering, 2.65 GB at the end.
_BASE = 2.5e8  # interpreter, libraries, weights
_VOXEL = 4.0  # bytes: float32
_READING = 4.6  # volumes of the largest input's size: the reference, one moving, and what reading and resampling need
_AT_THE_END = 2.2  # volumes of the output's size beside the results themselves
_PER_INPUT, _PER_TARGET = 2.0, 3.0  # volumes of the aligned grid: images, network input, pictures; answers, errors, pictures
_SURE = 1.1
_PER_SLICE_PIXEL = (150.0, 240.0)  # bytes for each input and target of one slice in the network


@dataclass(frozen=True)
class Footprint:
    """Predicted peak of one study, bytes; `slice_bytes`: what each slice that is in the network at once takes."""

    peak: int
    slice_bytes: int

    def slices(self, limit: int, usual: int) -> int:
        """How many slices go through the network at once: `usual`, or fewer where `limit` (0: none) leaves less room."""
        room = limit - self.peak
        return usual if not limit else max(1, min(usual, room // max(1, self.slice_bytes)))


def footprint(grids: Mapping[Modality, Grid], targets: int, output: Grid) -> Footprint:
    """The footprint of a study of these inputs, written on `output`."""
    aligned = axial_grid(output)
    native = max(_bytes(g) for g in grids.values())
    common = _bytes(aligned) * (_PER_INPUT * len(grids) + _PER_TARGET * targets)
    end = common + (targets + _AT_THE_END) * _bytes(output)
    pixels = aligned.shape[0] * aligned.shape[1]
    per_slice = pixels * (_PER_SLICE_PIXEL[0] * len(grids) + _PER_SLICE_PIXEL[1] * targets)
    return Footprint(round(_SURE * (_BASE + max(_READING * native, end))), round(per_slice))


def _bytes(grid: Grid) -> float:
    i, j, k = grid.shape
    return _VOXEL * i * j * k


def in_words(amount: int) -> str:
    """Bytes -> ``2.7 GiB`` or ``300 MiB``."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def parse_bytes(text: str) -> int:
    """``3G``, ``800M``, ``2.5GiB`` or plain bytes -> bytes.

    Raises:
        ValueError: it is no such number.
    """
    plain = text.strip().upper().removesuffix("B").removesuffix("I")
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (plain[:-1], units[plain[-1]]) if plain[-1:] in units else (plain, 1)
    value = float(number) * unit
    if not 0 <= value < float("inf"):
        raise ValueError("less than nothing, or more than anything")
    return round(value)
