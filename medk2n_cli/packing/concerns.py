"""What about a study is unlike anything the weights were trained on: each with its number and the card's limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import AlignedStudy, Volume
from medk2n_cli.packing.normalise import Scale

Limits = Mapping[str, Sequence[float]]  # name of a number -> lowest and highest that training saw
_SENTENCES = {
    "in_plane_mm": "its pixels are {value:.2f} mm wide",
    "slice_mm": "its slices are {value:.1f} mm apart",
    "head_ml": "the head in it measures {value:.0f} ml",
    "cut_in_plane": "the field of view cuts the head off at a side (over {value:.0%} of its section)",
    "cut_on_top": "the field of view ends below the top of the head (over {value:.0%} of its section)",
    "noise": "its noise is {value:.2f} of the signal's scale (normal tissue is 0.5)",
    "background": "the air around the head is at {value:.2f} of the signal's scale: ghosts, motion or a wrong image",
}
_KERNEL = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))  # Immerkaer, CVIU 1996: blind to edges and slopes


@dataclass(frozen=True)
class Concern:
    """One number out of its limits; `modality` None where it is of the whole study."""

    code: str
    modality: Modality | None
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        name = f"{self.modality.value}: " if self.modality else ""
        said = _SENTENCES[self.code].format(value=self.value)
        return f"{name}{said}; the weights were trained for {self.low:g} to {self.high:g}."


@dataclass(frozen=True)
class Recorded:
    """What is kept of an acquired volume when its voxels are let go: its grid, and its noise in acquired units."""

    grid: Grid
    noise: float

    @classmethod
    def of(cls, volume: Volume) -> Recorded:
        """Measure it."""
        return cls(volume.grid, _noise(volume))


def concerns(
    acquired: Mapping[Modality, Recorded], study: AlignedStudy, scales: Mapping[Modality, Scale], limits: Limits
) -> list[Concern]:
    """Everything out of the limits; a number without a limit in the card is not looked at.

    Args:
        acquired: on their own grids.
        scales: how each was normalised, so that noise has a scale.
    """
    found: list[tuple[str, Modality | None, float]] = [(code, None, value) for code, value in _of_study(study)]
    found += [(code, m, value) for m, v in acquired.items() for code, value in _of_volume(v, study, m, scales[m])]
    return [
        Concern(code, modality, value, low, high)
        for code, modality, value in found
        for low, high in [tuple(limits[code])[:2] if code in limits else (-np.inf, np.inf)]
        if not low <= value <= high
    ]


def refuse(found: Sequence[object]) -> None:
    """`--strict`: a concern is a refusal.

    Raises:
        StudyError: UNLIKE_TRAINING, where there is any.
    """
    if found:
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise StudyError(
            f"The study is unlike what the weights were trained on. {found[0]}{more}",
            next_step="Leave out what is not usual with --ignore, or go on with warnings by leaving --strict away.",
            code="UNLIKE_TRAINING",
        )


def _of_study(study: AlignedStudy) -> Iterator[tuple[str, float]]:
    head = study.head
    yield "head_ml", float(head.sum() * np.prod(study.grid.spacing) / 1000)
    faces = [_share(head, axis, end) for axis in (0, 1) for end in (0, -1)]
    yield "cut_in_plane", max(faces)
    yield "cut_on_top", _share(head, 2, -1)


def _share(head: NDArray[np.bool_], axis: int, end: int) -> float:
    """Head in the outermost layer, as a share of the largest section parallel to it."""
    sections = head.sum(tuple(a for a in range(3) if a != axis))
    return float(sections[end] / max(1, sections.max()))


def _of_volume(volume: Recorded, study: AlignedStudy, modality: Modality, scale: Scale) -> Iterator[tuple[str, float]]:
    spacing = sorted(volume.grid.spacing)
    yield "in_plane_mm", spacing[1]
    yield "slice_mm", spacing[2]
    if not modality.is_quantitative:
        yield "noise", volume.noise * scale.gain
        air = study.volumes[modality].array[~study.head]
        if air.size:
            yield "background", float(np.median(np.abs(air)) * scale.gain)


def _noise(volume: Volume) -> float:
    """Standard deviation of white noise in the middle of the volume, acquired units; in the plane of finest pixels."""
    axis = int(np.argmax(volume.grid.spacing))
    array = np.moveaxis(volume.array, axis, 2)
    part = array[tuple(slice(n // 4, max(n // 4 + 3, 3 * n // 4)) for n in array.shape)]
    rough = np.zeros(tuple(n - 2 for n in part.shape[:2]) + part.shape[2:], np.float32)
    for i, row in enumerate(_KERNEL):
        for j, factor in enumerate(row):
            rough += factor * part[i : i + rough.shape[0], j : j + rough.shape[1]]
    return float(np.median(np.abs(rough)) / 0.6745 / 6)  # the kernel's weights have norm 6
