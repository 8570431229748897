from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.core.modality import Modality
from medk2n_cli.training import baselines
from medk2n_cli.training.baselines import TrainingVoxels

T1, T2, FLAIR = Modality.T1, Modality.T2, Modality.FLAIR


def study(seed: int) -> tuple[dict[Modality, np.ndarray], np.ndarray, bool]:
    rng = np.random.default_rng(seed)
    t1, t2 = (rng.random((3, 20, 20)).astype(np.float32) for _ in range(2))
    return {T1: t1, T2: t2, FLAIR: 0.3 + t1 * t2 - 0.5 * t1**2}, np.ones(t1.shape, bool), True


def test_the_quadratic_regression_finds_a_quadratic_law() -> None:
    voxels = TrainingVoxels.of([study(0), study(1)])
    volumes, _, _ = study(2)
    made = baselines.quadratic({T1: volumes[T1], T2: volumes[T2]}, FLAIR, voxels)
    assert made is not None
    assert np.allclose(made, volumes[FLAIR].clip(0, 2), atol=1e-4)
    assert baselines.quadratic({Modality.ADC: volumes[T1]}, FLAIR, voxels) is None, "no study to learn it from"


def test_histogram_matching_gives_the_targets_distribution() -> None:
    voxels = TrainingVoxels.of([study(0)])
    volumes, head, _ = study(3)
    made = baselines.histogram_matched(volumes[T1], FLAIR, head, voxels)
    assert np.allclose(np.quantile(made, [0.1, 0.5, 0.9]), np.quantile(voxels.studies[0][FLAIR], [0.1, 0.5, 0.9]), atol=0.02)


def test_the_constant_is_the_mean_of_the_truth() -> None:
    volumes, head, _ = study(4)
    assert np.allclose(baselines.constant(volumes[T1], head), volumes[T1].mean())


def test_stripped_brains_are_answered_by_stripped_brains_where_there_are_any() -> None:
    volumes, head, _ = study(5)
    scalps = {**volumes, FLAIR: 1 - volumes[FLAIR]}, head, False
    voxels = TrainingVoxels.of([study(0), scalps])
    sources = {T1: volumes[T1], T2: volumes[T2]}
    brain, whole = (baselines.quadratic(sources, FLAIR, replace(voxels, like=stripped)) for stripped in (True, False))
    assert brain is not None
    assert whole is not None
    assert np.allclose(brain, volumes[FLAIR].clip(0, 2), atol=1e-4)
    assert np.allclose(whole, (1 - volumes[FLAIR]).clip(0, 2), atol=1e-4)
    only_scalps = replace(TrainingVoxels.of([scalps]), like=True)
    assert np.allclose(baselines.quadratic(sources, FLAIR, only_scalps), whole, atol=1e-4), "better than nothing"


def test_the_regression_stays_in_the_range_of_the_truth() -> None:
    volumes, head, _ = study(6)
    bright = {T1: volumes[T1], FLAIR: (4 * volumes[T1]).clip(0, 2)}
    made = baselines.quadratic({T1: volumes[T1] * 3}, FLAIR, TrainingVoxels.of([(bright, head, True)]))
    assert made is not None
    assert made.min() >= 0
    assert made.max() <= 2
