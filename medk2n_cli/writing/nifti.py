"""A synthesised volume as NIfTI, marked in its name, its header and its sidecar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from medk2n_cli import itk
from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume

MARK = "SYNTHETIC by medk2n, not for diagnosis"  # goes to the header's descrip field, 79 characters at most


def write_volume(folder: Path, modality: Modality, volume: Volume) -> Path:
    """``synth_FLAIR.nii.gz`` in `folder`: int16, rounded; read back and compared before it counts as written.

    Raises:
        OutputError: it cannot be written, or reads back differently (a full disk does that to a gzip file).
    """
    file = folder / f"synth_{modality.value}.nii.gz"
    voxels = stored(volume)
    image = itk.to_image(voxels, volume.grid)
    image.SetMetaData("ITK_FileNotes", f"{MARK}: {modality.value}")
    try:
        sitk.WriteImage(image, str(file), useCompression=True, compressionLevel=3)
        back = sitk.ReadImage(str(file))
        intact = bool((voxels == sitk.GetArrayViewFromImage(back).T).all()) and itk.grid_of(back).same_place(itk.grid_of(image))
    except RuntimeError as failure:
        raise _lost(file, "the disk may be full") from failure
    if not intact:
        raise _lost(file, "it reads back differently")
    return file


def stored(volume: Volume) -> NDArray[np.int16]:
    """(I, J, K) the numbers that are written: whole, from 0 to 32767, the same in NIfTI and DICOM."""
    return np.clip(np.rint(volume.array), 0, np.iinfo(np.int16).max).astype(np.int16)


def _lost(file: Path, why: str) -> OutputError:
    return OutputError(
        f"{file.name} could not be written: {why}.",
        next_step="Free some space or choose another folder with --out; nothing was left half-written.",
        code="CANNOT_WRITE",
    )
