"""Does this machine's runtime give the answer that the weights gave when they were exported?"""

from __future__ import annotations

import numpy as np

from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput
from medk2n_cli.model.session import Session, run

TOLERANCE = 2e-3  # float32 convolutions differ in the fourth place between processors
_SIZE, _SLICES = 64, 4
_SLICE_NUMBERS = ("quality", "w_global", "threshold", "gain")


def probe() -> ModelInput:
    """T1 and T2 of a formula: two ellipsoids and a slope, the same on every machine."""
    k, j, i = np.meshgrid(np.arange(_SLICES), np.arange(_SIZE), np.arange(_SIZE), indexing="ij")
    x, y, z = (i - 31.5) / 26, (j - 31.5) / 30, (k - 1.5) / 8
    head, core = (x**2 + y**2 + z**2) < 1, (x**2 * 9 + y**2 * 5 + z**2) < 1
    t1 = head * (0.5 + 0.1 * x) - core * 0.35
    t2 = head * (0.5 - 0.1 * y) + core * 0.8
    return ModelInput(np.clip(np.stack([t1, t2]), 0, 2).astype(np.float32), (Modality.T1, Modality.T2))


def answer(session: Session) -> tuple[float, ...]:
    """A few numbers that depend on every part of the graph: image, expected error, quality, weights, thresholds, identity."""
    targets = [m for m in session.weights.card.modalities if m not in (Modality.T1, Modality.T2)][:2]
    output = run(session, probe(), targets)
    image = output.synthesised
    numbers = [image.mean(), image.std(), np.abs(np.diff(image, axis=-1)).mean(), output.expected_error.mean()]
    numbers += [getattr(output, name).mean() for name in _SLICE_NUMBERS]
    numbers.append(output.identity.max(-1).mean())
    return tuple(round(float(n), 5) for n in numbers)


def difference(session: Session) -> float:
    """Largest difference from the answer stored in the card; infinite where the card stores none of this kind."""
    stored, now = session.weights.card.self_test, answer(session)
    if len(stored) != len(now):
        return float("inf")
    return max(abs(a - b) for a, b in zip(stored, now, strict=True))
