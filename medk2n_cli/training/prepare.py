"""Real studies through the tool's own reading, aligning and packing, kept for training and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medk2n_cli.aligning.align import align
from medk2n_cli.core.errors import Medk2nError
from medk2n_cli.packing.pack import cut, pack
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.training.baselines import TrainingVoxels
from medk2n_cli.training.dataset import SLOTS

_BIDS_TYPES = ("anat", "dwi")
_LOG = logging.getLogger(__name__)


def prepare(folder: Path, out: Path) -> Path:
    """One study folder -> ``out/NAME.npz`` (`study_name`), kept if newer than the study.

    It holds images (m, S, H, W) float16, slots, head, spacing.

    Raises:
        StudyError: the study cannot be read or aligned.
    """
    file = out / f"{study_name(folder)}.npz"
    newest = max(f.stat().st_mtime for f in folder.rglob("*") if f.is_file())
    if file.exists() and file.stat().st_mtime > newest:
        return file
    aligned = align(load(scan([folder]).chosen()))
    packed = pack(aligned)
    out.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    np.savez(
        part,
        images=packed.input.stack.astype(np.float16),
        slots=[SLOTS.index(m) for m in packed.input.have],
        head=cut(aligned.head.astype(np.float32), packed.box) > 0,
        stripped=aligned.stripped,
        spacing=aligned.grid.spacing,
    )
    part.rename(file)
    return file


def prepare_all(places: Sequence[Path], out: Path, held_out: Sequence[str]) -> tuple[Path, ...]:
    """Every study folder below `places` with at least two contrasts; one that fails is logged and left out."""
    found = []
    for folder in _study_folders(places):
        if study_name(folder) in held_out:
            continue
        try:
            found.append(prepare(folder, out))
        except Medk2nError as failure:
            _LOG.warning("%s left out: %s", folder.name, failure.problem)
    return tuple(found)


def training_voxels(files: Sequence[Path]) -> TrainingVoxels:
    """Normalised voxels of prepared studies, for the baselines."""
    studies = []
    for file in files:
        stored = np.load(file)
        images = {SLOTS[s]: stored["images"][n].astype(np.float32) for n, s in enumerate(stored["slots"])}
        studies.append((images, stored["head"]))
    return TrainingVoxels.of(studies)


def study_name(folder: Path) -> str:
    """The folder's name, with the subject's before a BIDS session's: ``sub-01_ses-0001``."""
    return f"{folder.parent.name}_{folder.name}" if folder.name.startswith("ses-") else folder.name


def _study_folders(places: Sequence[Path]) -> Iterator[Path]:
    """Folders with at least two recognised contrasts, directly or below BIDS data types (anat, dwi)."""
    for place in places:
        for folder in sorted({place, *(f for f in place.rglob("*") if f.is_dir())}):
            types = [folder / t for t in _BIDS_TYPES if (folder / t).is_dir()]
            inside = [] if folder.name in _BIDS_TYPES else [folder, *types]
            files = [f for part in inside for f in part.iterdir() if f.is_file()]
            if files and len({s.modality for s in scan(files).series if s.unused is None}) > 1:
                yield folder
