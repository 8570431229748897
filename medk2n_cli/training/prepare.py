"""Real studies through the tool's own reading, aligning and packing, kept for training and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medk2n_cli.core.errors import Medk2nError
from medk2n_cli.core.volumes import AlignedStudy
from medk2n_cli.packing.pack import Box
from medk2n_cli.training.baselines import TrainingVoxels
from medk2n_cli.training.dataset import SLOTS
from medk2n_cli.training.refusal import Refusal
from medk2n_cli.training.replacing import replacing
from medk2n_cli.training.simulate.heads import load_heads, store_head

_BIDS_TYPES = ("anat", "dwi")
_LOG = logging.getLogger(__name__)


def prepare(folder: Path, out: Path) -> Path:
    """One study folder -> ``out/NAME.npz`` (`study_name`), kept if newer than the study.

    It holds images (m, S, H, W) float16, slots, head, deep, lesion (all false where the study has no mask), spacing.

    Raises:
        StudyError: the study cannot be read or aligned.
    """
    # Here, so that a GPU machine without SimpleITK can train on what `bundle` made.
    from medk2n_cli.aligning.align import align
    from medk2n_cli.packing.pack import cut, pack
    from medk2n_cli.reading.scan import load, scan

    file = out / f"{study_name(folder)}.npz"
    newest = max(f.stat().st_mtime for f in folder.rglob("*") if f.is_file())
    if file.exists() and file.stat().st_mtime > newest and "deep" in np.load(file):
        return file
    aligned = align(load(scan([folder]).chosen()))
    packed = pack(aligned)
    with replacing(file) as stream:
        np.savez(
            stream,
            images=packed.input.stack.astype(np.float16),
            slots=[SLOTS.index(m) for m in packed.input.have],
            head=cut(aligned.head.astype(np.float32), packed.box) > 0,
            deep=packed.deep,
            lesion=lesion_mask(folder, aligned, packed.box),
            stripped=aligned.stripped,
            spacing=aligned.grid.spacing,
        )
    return file


def lesion_mask(folder: Path, aligned: AlignedStudy, box: Box, name: str = "lesions.nii.gz") -> NDArray[np.bool_]:
    """(D, H, W) the study's mask of lesions as the network sees the study; all false where it has none."""
    from medk2n_cli import itk
    from medk2n_cli.aligning.resample import resample
    from medk2n_cli.packing.pack import cut

    if not (folder / name).is_file():
        return cut(np.zeros(aligned.grid.shape, np.float32), box) > 0
    mask = itk.read_volume(folder / name)
    return cut(resample(mask, aligned.grid).array * aligned.head, box) > 0.5


def prepare_all(places: Sequence[Path], out: Path, held_out: Sequence[str], must_exist: bool = False) -> tuple[Path, ...]:
    """Every study folder below `places` with at least two contrasts; one that fails is logged and left out.

    A place that holds prepared studies (``*.npz``, say of `bundle`) gives these.

    Raises:
        Refusal: a name of `held_out` is no study below `places`, which may be a slip of the pen (`must_exist`).
    """
    prepared = [f for place in places for f in sorted(place.glob("*.npz"))]
    folders = list(_study_folders(places))
    known = {f.stem for f in prepared} | {study_name(f) for f in folders}
    if must_exist and not prepared and (unknown := set(held_out) - known):  # `bundle` has left them out already
        there = ", ".join(sorted(known)) or "none"
        raise Refusal(f"no study is called {', '.join(sorted(unknown))}: see --hold-out and --data; there are: {there}")
    found = [f for f in prepared if f.stem not in held_out]
    for folder in folders:
        if study_name(folder) in held_out:
            continue
        try:
            found.append(prepare(folder, out))
        except Medk2nError as failure:
            _LOG.warning("%s left out: %s", folder.name, failure.problem)
    return tuple(found)


def bundle(label_maps: Path, cache: Path, studies: Sequence[Path], out: Path) -> Path:
    """All that training reads, in little space: ``out/heads`` and ``out/studies`` serve as --label-maps and --data.

    Studies are rounded to 1/512 of the network's scale.
    """
    (out / "studies").mkdir(parents=True, exist_ok=True)  # also where there are none: it serves as --data
    for head in load_heads(label_maps, cache):
        store_head(head, out / "heads" / f"{head.name}.npz", np.savez_compressed)
    for file in studies:
        stored = dict(np.load(file))
        stored["images"] = (np.rint(stored["images"].astype(np.float32) * 512) / 512).astype(np.float16)
        with replacing(out / "studies" / file.name) as stream:
            np.savez_compressed(stream, **stored)
    return out


def training_voxels(files: Sequence[Path]) -> TrainingVoxels:
    """Normalised voxels of prepared studies, for the baselines."""
    studies = []
    for file in files:
        stored = np.load(file)
        images = {SLOTS[s]: stored["images"][n].astype(np.float32) for n, s in enumerate(stored["slots"])}
        studies.append((images, stored["head"], bool(stored["stripped"])))
    return TrainingVoxels.of(studies)


def study_name(folder: Path) -> str:
    """The folder's name, with the subject's before a BIDS session's: ``sub-01_ses-0001``."""
    return f"{folder.parent.name}_{folder.name}" if folder.name.startswith("ses-") else folder.name


def _study_folders(places: Sequence[Path]) -> Iterator[Path]:
    """Folders with at least two recognised contrasts, directly or below BIDS data types (anat, dwi)."""
    from medk2n_cli.reading.scan import scan

    for place in (p for p in places if not any(p.glob("*.npz"))):
        for folder in sorted({place, *(f for f in place.rglob("*") if f.is_dir())}):
            types = [folder / t for t in _BIDS_TYPES if (folder / t).is_dir()]
            inside = [] if folder.name in _BIDS_TYPES else [folder, *types]
            files = [f for part in inside for f in part.iterdir() if f.is_file()]
            if files and len({s.modality for s in scan(files).series if s.unused is None}) > 1:
                yield folder
