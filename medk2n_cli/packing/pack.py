"""AlignedStudy -> ModelInput, and the way back for its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import MULTIPLE, ModelInput
from medk2n_cli.core.volumes import AlignedStudy, Volume
from medk2n_cli.packing.normalise import Scale, measure_scale

_MARGIN = 4  # pixels of background kept around the head


@dataclass(frozen=True)
class Box:
    """Which part of the aligned grid the network sees, in voxels; `pad_*` zeros were added at the high end."""

    i: slice
    j: slice
    k: slice
    pad_i: int
    pad_j: int


@dataclass(frozen=True, eq=False)
class Packed:
    """The network's input, where it was cut from, and how each modality was scaled; deep: (D, H, W), the deep head."""

    input: ModelInput
    box: Box
    scales: Mapping[Modality, Scale]
    deep: NDArray[np.bool_]


def pack(study: AlignedStudy) -> Packed:
    """Normalise, zero the background, cut to the head, turn to (K, D, H, W).

    Raises:
        StudyError: a volume is flat inside the head.
    """
    box = _box(study.head)
    layers, scales = [], {}
    for modality, volume in study.volumes.items():
        scales[modality] = scale_of(modality, volume, study.deep)
        layers.append(cut(scales[modality].apply(volume.array) * volume.within(study.head), box))
    deep = cut(study.deep.astype(np.float32), box) > 0
    return Packed(ModelInput(np.stack(layers), tuple(study.volumes)), box, scales, deep)


def scale_of(modality: Modality, volume: Volume, deep: NDArray[np.bool_]) -> Scale:
    """How an acquired volume is normalised; only what its field of view reached is measured.

    Raises:
        StudyError: FLAT_VOLUME, it shows nothing in the deep head.
    """
    try:
        return measure_scale(modality, volume.array[volume.within(deep)])
    except ValueError as failure:
        raise StudyError(
            f"{modality.value} cannot be normalised: {failure}.",
            next_step=f"Look at the image, or leave it out with --ignore {modality.value}.",
            code="FLAT_VOLUME",
        ) from failure


def normalised(modality: Modality, volume: Volume, deep: NDArray[np.bool_], head: NDArray[np.bool_]) -> NDArray[np.float32]:
    """An acquired volume on the network's scale; 0 outside the head and where its field of view did not reach.

    Raises:
        StudyError: FLAT_VOLUME.
    """
    return scale_of(modality, volume, deep).apply(volume.array) * volume.within(head)


def put_back(layers: NDArray[np.float32], box: Box, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """(D, H, W) of the box -> (I, J, K) of the grid, zero elsewhere."""
    whole = np.zeros(shape, np.float32)
    inner = layers.transpose(2, 1, 0)
    i, j = inner.shape[0] - box.pad_i, inner.shape[1] - box.pad_j
    whole[box.i, box.j, box.k] = inner[:i, :j]
    return whole


def cut(array: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """(I, J, K) of the grid -> (D, H, W) of the box."""
    part = np.pad(array[box.i, box.j, box.k], ((0, box.pad_i), (0, box.pad_j), (0, 0)))
    return np.ascontiguousarray(part.transpose(2, 1, 0), dtype=np.float32)


def _box(head: NDArray[np.bool_]) -> Box:
    spans = []
    for axis in range(3):
        used = np.nonzero(head.any(axis=tuple(a for a in range(3) if a != axis)))[0]
        margin = _MARGIN if axis < 2 else 0
        spans.append(slice(max(0, int(used[0]) - margin), min(head.shape[axis], int(used[-1]) + 1 + margin)))
    pads = [-(s.stop - s.start) % MULTIPLE for s in spans[:2]]
    return Box(spans[0], spans[1], spans[2], pads[0], pads[1])
