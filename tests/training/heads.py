"""A label map that is a formula, in the numbering of data/label_maps."""

from __future__ import annotations

import numpy as np

from medk2n_cli.training.simulate.heads import Head, prepare


def formula_head(name: str = "formula") -> Head:
    at = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in (150, 180, 150)], indexing="ij"), -1)
    radius = np.linalg.norm(at / [62, 78, 66], axis=-1)
    labels = np.zeros(at.shape[:3], np.float32)
    for limit, label in ((1.1, 511), (1.05, 515), (0.97, 24), (0.92, 3), (0.8, 2), (0.3, 10)):
        labels[radius < limit] = label
    labels[np.linalg.norm(at / [8, 24, 12], axis=-1) < 1] = 4
    return prepare(name, labels)
