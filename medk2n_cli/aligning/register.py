"""Rigid registration by mutual information, and how far each volume moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from medk2n_cli import itk
from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Move, Volume

WORK_MM = 2.0  # spacing of the images that are compared
STILL_MM, STILL_DEG = 0.3, 0.3  # a smaller move is not worth another interpolation
FAR_MM, FAR_DEG = 80.0, 45.0  # a larger move inside one study is not believed
MIN_OVERLAP = 0.1
_FEWEST = 4  # voxels along an axis: ITK's filters need them, and fewer slices do not hold a head in place
_BINS, _SHARE, _SEED = 32, 0.15, 121


@dataclass(frozen=True, eq=False)
class Registered:
    """Points of the reference -> points of the moving volume (None: no move), and the move in words and numbers."""

    transform: sitk.Transform | None
    move: Move


def check_overlap(reference: Volume, moving: Volume, names: tuple[Modality, Modality]) -> None:
    """Refuse volumes that hardly share any space.

    Raises:
        StudyError: less than a tenth of either box is covered by the other.
    """
    share = max(reference.grid.overlap(moving.grid), moving.grid.overlap(reference.grid))
    if share < MIN_OVERLAP:
        first, second = (n.value for n in names)
        raise StudyError(
            f"The fields of view of {first} and {second} do not overlap ({share:.0%}).",
            next_step=f"Check that both are of one visit, or leave one out with --ignore {second}.",
            code="NO_OVERLAP",
        )


def register(reference: Volume, moving: Volume, name: Modality) -> Registered:
    """Rigid transform of `moving` onto `reference`; kept still where nothing is gained, and where there are too few slices.

    Raises:
        StudyError: the optimiser failed or ended at a move nobody would believe.
    """
    fixed, other = (_working_image(v) for v in (reference, moving))
    if min(*fixed.GetSize(), *other.GetSize()) < _FEWEST:
        note = "too few slices to be registered: it lies where its file says."
        return Registered(None, Move(0.0, 0.0, "not registered", note))
    still = sitk.Euler3DTransform()
    still.SetCenter(_centre_of_mass(fixed))
    found, method = sitk.Euler3DTransform(still), _method()
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(fixed, other)
        before, after = (_information(fixed, other, t) for t in (still, found))
    except RuntimeError as failure:
        raise _failed(name, "the images share too little") from failure
    moved, turned = _size(found, still.GetCenter())
    if moved > FAR_MM or turned > FAR_DEG:
        raise _failed(name, f"it would have to move {moved:.0f} mm and turn {turned:.0f} degrees")
    if after <= before or (moved < STILL_MM and turned < STILL_DEG):
        return Registered(None, Move(0.0, 0.0, "kept"))
    return Registered(found, Move(moved, turned, "registered"))


def _information(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Mutual information under `transform`; larger is better."""
    method = _method()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInitialTransform(transform)
    return -float(method.MetricEvaluate(fixed, moving))


def _size(found: sitk.Euler3DTransform, centre: tuple[float, ...]) -> tuple[float, float]:
    """How far the centre of the head moves, mm, and the rotation angle, degrees."""
    shift = np.array(found.TransformPoint(centre)) - np.array(centre)
    trace = np.trace(np.array(found.GetMatrix()).reshape(3, 3))
    return float(np.linalg.norm(shift)), float(np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def _failed(name: Modality, why: str) -> StudyError:
    return StudyError(
        f"Registration of {name.value} failed: {why}.",
        next_step=f"Look at the images; then --no-register if they are aligned, or --ignore {name.value}.",
        code="REGISTRATION_FAILED",
    )


def _centre_of_mass(image: sitk.Image) -> tuple[float, ...]:
    array = sitk.GetArrayViewFromImage(image)
    weight = np.clip(array, 0, np.percentile(array, 99))
    at = [
        float((weight.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / weight.sum())
        for axis, n in enumerate(weight.shape)
    ]
    centre: tuple[float, ...] = image.TransformContinuousIndexToPhysicalPoint(at[::-1])
    return centre


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=120, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _working_image(volume: Volume) -> sitk.Image:
    """About `WORK_MM` in plane, intensities clipped at the 99.5th percentile so that a vessel does not eat the bins."""
    top = float(np.percentile(volume.array, 99.5))
    image = sitk.Clamp(itk.to_image(volume.array, volume.grid), sitk.sitkFloat32, float(volume.array.min()), top)
    factors = [max(1, round(WORK_MM / mm)) for mm in volume.grid.spacing]
    small: sitk.Image = sitk.BinShrink(image, factors)
    return small
