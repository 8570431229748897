"""What goes into the graph and what comes out of it, checked once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import read_only

FloatArray = NDArray[np.float32]
MULTIPLE = 16  # the network's coarsest stride
PILOT_SLICES = 16


def pilot_slices(depth: int) -> NDArray[np.int64]:
    """The slices that decide for the whole volume: up to `PILOT_SLICES`, evenly through the head without its very ends."""
    if depth <= PILOT_SLICES:
        return np.arange(depth)
    return np.unique(np.linspace(depth * 0.1, depth * 0.9, PILOT_SLICES).astype(np.int64))


@dataclass(frozen=True, eq=False)
class ModelInput:
    """The slices of one study that hold some head, cut to the head's box.

    Attributes:
        stack: (K, D, H, W) float32 in [0, 2], H to posterior and W to left, multiples of 16; D slices to superior.
        have: the K modalities of the stack, each once.
        neighbours: C, odd: how many slices the network sees at once.

    Raises:
        ValueError: shapes, order or range are not as said.
    """

    stack: FloatArray
    have: tuple[Modality, ...]
    neighbours: int = 3

    def __post_init__(self) -> None:
        k, depth, height, width = self.stack.shape
        if k != len(self.have) or len(set(self.have)) != k or k == 0:
            raise ValueError(f"stack is {self.stack.shape}, modalities are {[m.value for m in self.have]}")
        if depth == 0 or height % MULTIPLE or width % MULTIPLE:
            raise ValueError(f"slices are {height} x {width}, not multiples of {MULTIPLE}, or there are none")
        if not np.isfinite(self.stack).all() or self.stack.min() < 0 or self.stack.max() > 2:
            raise ValueError("network input lies in [0, 2]")
        read_only(self.stack)

    @property
    def depth(self) -> int:
        """How many slices."""
        return int(self.stack.shape[1])

    def slices(self, numbers: NDArray[np.integer]) -> FloatArray:
        """(S, K, C, H, W): the asked slices with their neighbours; the outermost stand in for what lies beyond."""
        reach = self.neighbours // 2
        around = np.clip(np.asarray(numbers)[:, None] + np.arange(-reach, reach + 1), 0, self.depth - 1)
        return np.ascontiguousarray(self.stack[:, around].transpose(1, 0, 2, 3, 4))

    def batches(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Slice numbers in runs of at most `size`."""
        for start in range(0, self.depth, size):
            yield np.arange(start, min(start + size, self.depth))


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """What the graph answered for every slice of a ModelInput; D slices, N targets, K inputs, M slots.

    Attributes:
        want: the N targets.
        synthesised, expected_error: (N, D, H, W), network scale.
        w_global, threshold, gate, w_eff, gain: (D, N, K), in the order of the input's `have`.
        key: (N,) position in `have` of each target's key frame.
        quality: (D, N) predicted SSIM in [0, 1].
        head: (N,) which of the two heads made each target: 0 residual, 1 full.
        identity: (D, N, M) and input_identity: (D, K, M), probabilities.
        level: by what each target has been multiplied since (`packing.level`); empty: by nothing.

    Raises:
        ValueError: a weight out of range or a value that is not finite.
    """

    want: tuple[Modality, ...]
    synthesised: FloatArray
    expected_error: FloatArray
    w_global: FloatArray
    threshold: FloatArray
    gate: FloatArray
    w_eff: FloatArray
    gain: FloatArray
    key: NDArray[np.int64]
    quality: FloatArray
    head: NDArray[np.int64]
    identity: FloatArray
    input_identity: FloatArray
    level: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.want) != self.synthesised.shape[0]:
            raise ValueError(f"{len(self.want)} targets asked, {self.synthesised.shape[0]} answered")
        if len(self.level) not in (0, len(self.want)):
            raise ValueError(f"{len(self.want)} targets, levels of {len(self.level)}")
        for name in ("w_global", "threshold", "gate", "w_eff", "quality", "identity", "input_identity"):
            values = getattr(self, name)
            if values.size and not (values.min() >= -1e-4 and values.max() <= 1 + 1e-4):
                raise ValueError(f"{name} leaves [0, 1]")
        if not (np.isfinite(self.synthesised).all() and np.isfinite(self.expected_error).all()):
            raise ValueError("the network answered with a value that is not finite")
