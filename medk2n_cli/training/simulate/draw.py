"""Chance, split from effect: every random choice of a simulated study is drawn here and can be replayed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.modality import Modality
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.sequence import COLUMNS, Sequence, draw_sequence
from medk2n_cli.training.simulate.tissue import CLASS, FLUIDS, TISSUES

FIELD_CONTROLS = (8, 8, 8)  # control points of the elastic deformation over the head
BIAS_CONTROLS = (4, 4, 4)
_MEAN_LESIONS = 6.0


@dataclass(frozen=True)
class Lesion:
    """A noise-perturbed ellipsoid: layers from outside in, each (class, share of the radius)."""

    centre: tuple[float, float, float]  # index of the head's label map
    radii: tuple[float, float, float]  # mm
    layers: tuple[tuple[str, float], ...]
    roughness: float


@dataclass(frozen=True)
class Fullness:
    """How far the brain fills its fluid spaces: the label maps are of heads with wide ones.

    Attributes:
        sulci: share of the fluid beside cortex that is cortex instead, voxel by voxel: narrow sulci are partial volume.
        ventricles: mm by which white matter grows into the ventricles.
        halo: relative lengthening of relaxation in the white matter along the ventricles.
    """

    sulci: float = 0.0
    ventricles: int = 0
    halo: float = 0.0


@dataclass(frozen=True)
class Scalp:
    """What lies outside the skull: the label maps' scalps are thinner than patients', bright up to the very edge.

    Attributes:
        fat: mm by which fat grows outwards.
        skin: mm of its outside that are skin, dark like muscle.
        air: mm of air that the mask takes for head.
    """

    fat: int = 0
    skin: int = 0
    air: int = 0


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How one contrast of the study was acquired."""

    sequence: Sequence
    bias: NDArray[np.float32]  # BIAS_CONTROLS, natural logarithm of the coil profile
    noise: float  # standard deviation per channel, relative to the median of the deep head
    blur_mm: float  # in-plane point spread, standard deviation
    thickness: float  # mm, slice profile's full width at half maximum; more than the spacing where slices were interpolated
    gamma: float  # what a vendor's filters do to the grey values: 1 is nothing
    shift_mm: tuple[float, float]  # residual misalignment in plane
    scale_error: float  # relative error of the measured normalisation


@dataclass(frozen=True, eq=False)
class Draw:
    """All parameters of one simulated study; rendering it is a pure function."""

    seed: int
    spacing: float  # through plane, mm
    pose: NDArray[np.float32]  # (3, 3) output offset in mm -> offset in the label map
    elastic: NDArray[np.float32]  # (3, *FIELD_CONTROLS) displacement, mm
    tissue: NDArray[np.float32]  # (classes, 7) `COLUMNS`
    texture: NDArray[np.float32]  # (4,) relative amplitude of the texture of T1, T2, PD, ADC
    fullness: Fullness
    scalp: Scalp
    strip_mm: int | None  # None: whole head, else the margin kept around the brain
    lesions: tuple[Lesion, ...]
    acquisitions: dict[Modality, Acquisition]


def draw_study(head: Head, seed: int) -> Draw:
    """Everything that is random about study number `seed` of `head`."""
    rng = np.random.default_rng(seed)
    outside = np.random.default_rng([seed, 511])
    spacing = float(rng.choice([1.0, rng.uniform(1.0, 3.5), rng.uniform(3.5, 8.0)], p=[0.45, 0.3, 0.25]))
    return Draw(
        seed=seed,
        spacing=spacing,
        pose=_pose(rng),
        elastic=(rng.normal(0, rng.uniform(0, 4.0), (3, *FIELD_CONTROLS))).astype(np.float32),
        tissue=_tissue(rng),
        texture=(np.array([0.05, 0.06, 0.03, 0.07]) * rng.uniform(0.3, 1.5, 4)).astype(np.float32),
        fullness=Fullness(
            float(rng.uniform(0.1, 0.7)) if rng.random() < 0.6 else 0.0,
            int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])),
            float(rng.uniform(0, 0.4)) if rng.random() < 0.5 else 0.0,
        ),
        scalp=Scalp(int(outside.integers(6)), int(outside.integers(3)), int(outside.integers(3))),
        strip_mm=int(rng.integers(0, 4)) if rng.random() < 0.5 else None,
        lesions=_lesions(head, rng),
        acquisitions=_acquisitions(rng, spacing),
    )


def _pose(rng: np.random.Generator) -> NDArray[np.float32]:
    """Rotation up to 12 degrees, anisotropic scaling of 8 %, and a mirrored head in half of the cases."""
    x, y, z = rng.normal(0, np.deg2rad(5), 3)
    rotation = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        turn, (a, b) = np.eye(3), [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    scale = np.diag(rng.normal(1.0, 0.06, 3))
    return (rotation @ scale @ np.diag([rng.choice([-1.0, 1.0]), 1, 1])).astype(np.float32)


def _tissue(rng: np.random.Generator) -> NDArray[np.float32]:
    """Relaxation differs by field strength (all tissues together) and by person (each on its own)."""
    table = np.array([[getattr(t, column) for column in COLUMNS] for t in TISSUES])
    spread = np.array([t.spread for t in TISSUES])[:, None]
    table[:, :4] *= np.exp(rng.normal(0, 1, (len(TISSUES), 4)) * spread * np.array([1, 1, 0.5, 1]))
    field = np.exp(rng.normal(0, [0.08, 0.06], 2))
    table[[n for n in range(len(TISSUES)) if n not in FLUIDS], :2] *= field  # water relaxes alike at any field strength
    table[:, 4] *= np.exp(rng.normal(0, 0.3, len(TISSUES)))
    table[:, 2] = np.minimum(table[:, 2], 1.05)
    table[list(FLUIDS), 2] *= rng.uniform(0.7, 1.0)  # it flows; still, 15 % of a stripped T2 lay above 1.7, of patients' 7 to 9
    if rng.random() < 0.85:  # a turbo spin echo keeps fat bright: its effective T2 is long
        table[[CLASS["skin and fat"], CLASS["bone marrow"]], 1] *= rng.uniform(1.0, 2.0)
    if rng.random() < 0.5:  # flowing blood leaves no signal in spin echoes
        table[CLASS["vessels"], 1] = rng.uniform(5, 40)
    return table.astype(np.float32)


def _lesions(head: Head, rng: np.random.Generator) -> tuple[Lesion, ...]:
    found: list[Lesion] = []
    if rng.random() < 0.5:
        for _ in range(1 + rng.poisson(_MEAN_LESIONS)):
            kind = "enhancing MS lesion" if rng.random() < 0.1 else "MS lesion"
            places = head.periventricular if rng.random() < 0.5 else head.white
            found.append(_lesion(places, rng, rng.gamma(2.0, 1.6) + 1.2, ((kind, 1.0),)))
    if rng.random() < 0.3:
        core = rng.uniform(0.35, 0.7)
        rim = core * rng.uniform(0.6, 0.95)
        layers: tuple[tuple[str, float], ...] = (("oedema", 1.0), ("enhancing rim", core), ("necrosis", rim))
        if rng.random() < 0.3:
            layers = (("oedema", 1.0), ("tumour core", core))
        found.append(_lesion(head.white, rng, rng.uniform(10, 35), layers))
    if rng.random() < 0.25:
        kind = "acute stroke" if rng.random() < 0.75 else "old stroke"
        found.append(_lesion(head.white, rng, rng.uniform(4, 28), ((kind, 1.0),)))
    return tuple(found)


def _lesion(places: NDArray[np.int16], rng: np.random.Generator, radius: float, layers: tuple[tuple[str, float], ...]) -> Lesion:
    centre = places[rng.integers(len(places))].astype(float)
    radii = radius * np.exp(rng.normal(0, 0.25, 3))
    return Lesion(
        (float(centre[0]), float(centre[1]), float(centre[2])),
        (float(radii[0]), float(radii[1]), float(radii[2])),
        layers,
        float(rng.uniform(0.1, 0.5)),
    )


def _acquisitions(rng: np.random.Generator, spacing: float) -> dict[Modality, Acquisition]:
    strength = rng.uniform(0, 0.22)
    drawn = {}
    for modality in Modality:
        coarse = modality in (Modality.DWI, Modality.ADC)
        shifted = rng.random() < 0.3
        # A volume resampled from another plane or from thicker slices is smoother than its grid.
        interpolated = rng.uniform(1.5, 4.0) if spacing < 2.5 and rng.random() < 0.25 else 1.0
        drawn[modality] = Acquisition(
            sequence=draw_sequence(modality, rng),
            bias=np.zeros(BIAS_CONTROLS, np.float32)
            if modality.is_quantitative
            else rng.normal(0, strength, BIAS_CONTROLS).astype(np.float32),
            noise=float(rng.uniform(0.003, 0.05)),
            blur_mm=float(rng.uniform(0.7, 1.2) if coarse else rng.uniform(0.35, 0.9)),
            thickness=float(max(1.0, spacing * rng.uniform(0.7, 1.4)) * interpolated),
            gamma=float(np.exp(rng.normal(0, 0.1))) if rng.random() < 0.5 and not modality.is_quantitative else 1.0,
            shift_mm=(float(rng.normal(0, 0.5)), float(rng.normal(0, 0.5))) if shifted else (0.0, 0.0),
            scale_error=float(rng.normal(0, 0.03)),
        )
    t1, t1c = drawn[Modality.T1], drawn[Modality.T1C]
    if rng.random() < 0.6:  # the same protocol before and after injection
        after = replace(t1.sequence, dose=t1c.sequence.dose)
        drawn[Modality.T1C] = replace(t1c, sequence=after, blur_mm=t1.blur_mm, thickness=t1.thickness, gamma=t1.gamma)
    return drawn
