"""Whole simulated studies as NIfTI folders, and a contact sheet to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from medk2n_cli import itk
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.packing.normalise import to_units
from medk2n_cli.training.simulate.anatomy import HeadTensors
from medk2n_cli.training.simulate.draw import Draw, draw_study
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.render import Rendered, Window, render

_SHAPE = (232, 200)  # rows to posterior and columns to left, 1 mm: holds every head
_HEIGHT_MM = 160.0  # from the top of the head to below the cerebellum
_SLAB_MM = 24.0  # rendered at once


def write_study(head: Head, seed: int, folder: Path, slices: int | None = None, draw: Draw | None = None) -> Path:
    """``T1.nii.gz`` ... ``ADC.nii.gz``, ``lesions.nii.gz`` and ``simulation.json``; the same seed gives the same study."""
    draw = draw or draw_study(head, seed)
    count = slices or int(_HEIGHT_MM / draw.spacing)
    parts = _slabs(HeadTensors.of(head, torch.device("cpu")), draw, count)
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, draw.spacing, 1.0])
    affine[:3, 3] = -(_SHAPE[1] - 1) / 2, -(_SHAPE[0] - 1) / 2, -(count - 1) / 2 * draw.spacing
    grid = Grid((_SHAPE[1], _SHAPE[0], count), affine)
    for modality in Modality:
        stack = torch.cat([p.acquired[modality] for p in parts]).numpy().transpose(2, 1, 0)
        voxels = np.rint(to_units(modality, stack)).astype(np.int16)
        sitk.WriteImage(itk.to_image(voxels, grid), str(folder / f"{modality.value}.nii.gz"), useCompression=True)
    lesions = torch.cat([p.lesion for p in parts]).numpy().transpose(2, 1, 0)
    sitk.WriteImage(itk.to_image(lesions, grid), str(folder / "lesions.nii.gz"), useCompression=True)
    (folder / "simulation.json").write_text(json.dumps(_told(head, draw), indent=1) + "\n", encoding="utf-8")
    return folder


def _slabs(source: HeadTensors, draw: Draw, count: int) -> list[Rendered]:
    per_slab = max(1, int(_SLAB_MM / draw.spacing))
    parts = []
    for first in range(0, count, per_slab):
        number = min(per_slab, count - first)
        middle = (first + (number - 1) / 2 - (count - 1) / 2) * draw.spacing
        parts.append(render(source, draw, Window((0.0, 0.0, middle), _SHAPE, number), list(Modality)))
    return parts


def demo_draw(head: Head, seed: int) -> Draw:
    """A study for `medk2n demo`: whole head, 5 mm slices."""
    return replace(draw_study(head, seed), spacing=5.0, strip_mm=None)


def _told(head: Head, draw: Draw) -> dict[str, object]:
    """What it takes to make the study again, and what was drawn."""
    return {
        "synthetic_anatomy": True,
        "label_map": head.name,
        "seed": draw.seed,
        "spacing_mm": round(draw.spacing, 3),
        "skull": "kept" if draw.strip_mm is None else "stripped",
        "lesions": [le.layers[0][0] for le in draw.lesions],
        "sequences": {m.value: a.sequence.to_dict() for m, a in draw.acquisitions.items()},
    }


def write_sheet(folders: Sequence[Path], file: Path) -> Path:
    """One row per study, one column per contrast, the middle slice."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(folders), len(Modality), figsize=(2 * len(Modality), 2.3 * len(folders)), squeeze=False)
    for row, folder in zip(axes, folders, strict=True):
        for axis, modality in zip(row, Modality, strict=True):
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{modality.value}.nii.gz")))
            axis.imshow(array[len(array) // 2], cmap="gray", vmin=0, vmax=np.percentile(array, 99.7))
            axis.set_title(f"{folder.name} {modality.value}", fontsize=6)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)
    return file
