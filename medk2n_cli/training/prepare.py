"""Real studies through the tool's own reading, aligning and packing, kept for training and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medk2n_cli.aligning.align import align
from medk2n_cli.core.modality import Modality
from medk2n_cli.packing.pack import cut, pack
from medk2n_cli.reading.scan import load, scan

SLOTS = list(Modality)


def prepare(folder: Path, out: Path) -> Path:
    """One study folder -> ``out/NAME.npz``: images (m, S, H, W) float16, slots, head, spacing."""
    aligned = align(load(scan([folder]).chosen()))
    packed = pack(aligned)
    file = out / f"{folder.name}.npz"
    out.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        images=packed.input.stack.astype(np.float16),
        slots=[SLOTS.index(m) for m in packed.input.have],
        head=cut(aligned.head.astype(np.float32), packed.box) > 0,
        stripped=aligned.stripped,
        spacing=aligned.grid.spacing,
        moves=[aligned.moves[m].moved_mm for m in packed.input.have],
    )
    part.rename(file)
    return file
