"""Everything that shapes a training run, as one value; no torch, so that the command line can read its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LossWeights:
    """How much each term counts."""

    l1: float = 0.6
    l2: float = 1.5  # L1 alone answers the likelier of fluid and lesion, and so loses most lesions; squares pull towards both
    ssim: float = 0.4
    contrast: float = 0.15  # of lesions to their surroundings; more made fluid bright in FLAIR from T2 alone (R2 0.41 to 0.27)
    error: float = 0.1  # at 0.05 the map followed the true error of voxels too little (rank 0.37 on a stripped brain)
    quality: float = 0.5
    gate: float = 0.4
    gain: float = 0.5
    affinity: float = 1.0
    identity: float = 0.15  # the image encoder learns on acquired images alone
    looks: float = 0.03  # L_cua and L_metric of synthesised ones, encoder frozen


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a run; it ends after `steps`, or after `minutes` where `steps` is 0.

    `warm_steps` counts steps of the whole training with every clean gate held open; `whole_slices` is the last
    share of a run that trains on whole slices, so that pooled descriptors see what they will see. `encoder` (conv or
    sam2) and `encoder_weights` are for new trainings; a resumed one keeps what its checkpoint has. `only`: all but the
    parameters whose names start with one of these stay as they are; empty: all are trained.
    """

    size: str = "small"
    minutes: float = 60.0
    steps: int = 0
    rate: float = 1e-3
    batch: int = 8
    crop: tuple[int, int] = (96, 96)
    whole: tuple[int, int] = (224, 192)
    whole_slices: float = 0.15
    pool: int = 1200
    refresh: int = 1
    real_share: float = 0.4
    corrupted: float = 0.3
    warm_steps: int = 5000
    average: float = 0.999
    seed: int = 1
    encoder: str = "conv"
    encoder_weights: str = ""
    only: tuple[str, ...] = ()
    weights: LossWeights = field(default_factory=LossWeights)
