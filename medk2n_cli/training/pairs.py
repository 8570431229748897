"""How the gates treat clean inputs, per (source, target) pair: what the card tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from medk2n_cli.core.modality import Modality
from medk2n_cli.training.dataset import SLOTS, SimulatedPool, collate
from medk2n_cli.training.network import MedK2N
from medk2n_cli.training.simulate.heads import load_heads

_SAMPLES, _CROP, _SEED = 24, (192, 192), 99


@torch.no_grad()
def measure_pairs(network: MedK2N, label_maps: Path, cache: Path) -> dict[str, dict[str, float]]:
    """``T1>T2`` -> mean gate and w_eff of a clean auxiliary, over simulated slices and over all other key frames."""
    pool = SimulatedPool(load_heads(label_maps, cache), _CROP, _SAMPLES, _SEED, torch.device("cpu"))
    pool.refresh(_SAMPLES)
    chance = np.random.default_rng(_SEED)
    found: dict[str, dict[str, float]] = {}
    for target in range(len(SLOTS)):
        have = [s for s in range(len(SLOTS)) if s != target]
        batch = collate(pool.draw(8, chance), have, [target], chance)
        features = network.encode(batch.images, batch.have)
        sums = np.zeros((len(have), 3))
        for key in range(len(have)):
            override, chosen = torch.full((1, len(have)), -1.0), torch.tensor([key])
            fusion = network.fuse_weights(batch.images, features, batch.have, batch.want, chosen, override)
            others = np.arange(len(have)) != key
            gate, weight = (t[:, 0].mean(0).numpy() for t in (fusion.gate, fusion.w_eff))
            sums[others] += np.stack([gate, weight, np.ones_like(gate)], 1)[others]
        for row, source in enumerate(have):
            gate, weight, count = sums[row]
            found[f"{_name(source)}>{_name(target)}"] = {"gate": float(gate / count), "w_eff": float(weight / count)}
    return found


def _name(slot: int) -> str:
    modality: Modality = SLOTS[slot]
    return modality.value
