"""`medk2n verify`: is a result on disk complete, unchanged, consistent and marked synthetic, file by file?"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medk2n_cli.core.errors import Medk2nError, OutputError
from medk2n_cli.core.study import Series
from medk2n_cli.core.volumes import Volume
from medk2n_cli.digest import sha256_of
from medk2n_cli.reading import dicom, nifti
from medk2n_cli.reading.dicom_geometry import Unusable
from medk2n_cli.reading.dicom_headers import Slice, read_slices

MANIFEST, SCHEMA = "result.json", "medk2n.result/1"
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: the file or folder, and what is wrong with it."""

    where: str
    problem: str


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what was found wrong.

    Attributes:
        files: how many files the manifest lists.
        instances: how many DICOM objects were read.
        series: NIfTI volumes and DICOM series whose voxels were read.
        findings: empty where all is well.
    """

    files: int
    instances: int
    series: int
    findings: tuple[Finding, ...]


def verify(folder: Path) -> Verified:
    """Read everything that `folder/result.json` lists, and look for what it does not list.

    Raises:
        OutputError: NO_RESULT, the folder holds no finished result.
    """
    names = _listed(folder)
    findings = list(_files(folder, names))
    good = [n for n in names if n not in {f.where for f in findings}]
    volumes, marks = _nifti(folder, good)
    objects, broken = _objects(folder, good)
    placed, wrong = _series(folder, objects)
    findings += marks + broken + wrong + list(_identities(objects)) + list(_reports(folder, good)) + list(_agree(volumes, placed))
    return Verified(len(names), len(objects), len(volumes) + len(placed), tuple(findings))


def _listed(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, as the manifest says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise ValueError
        return {str(f["file"]): str(f["sha256"]) for f in manifest["outputs"]}
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise OutputError(
            f"{folder} holds no finished result: {MANIFEST} is missing or not ours.",
            next_step="Give the folder that medk2n synthesize wrote with --out, or run it again.",
            code="NO_RESULT",
        ) from failure


def _files(folder: Path, names: Mapping[str, str]) -> Iterator[Finding]:
    for name, sha256 in names.items():
        try:
            if sha256_of(folder / name) != sha256:
                yield Finding(name, "changed since it was written")
        except OSError:
            yield Finding(name, "missing")
    for place in folder.glob(".medk2n-part-*"):
        yield Finding(place.name, "left behind by a run that was killed; remove it")
    for file in sorted([*(folder / "dicom").rglob("*"), *(folder / "preview").rglob("*"), *folder.glob("synth_*")]):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in names:
            yield Finding(name, f"not listed in {MANIFEST}")


def _nifti(folder: Path, names: list[str]) -> tuple[dict[str, Volume], list[Finding]]:
    found, findings = {}, []
    for name in (n for n in names if nifti.is_nifti(Path(n))):
        try:
            found[_target(name)] = nifti.load_volume(Series(name, (folder / name,), None))
            if not nifti.says_synthetic(folder / name):
                findings.append(Finding(name, "its header does not say that it is synthetic"))
        except (Medk2nError, OSError, EOFError, ValueError, zlib.error) as failure:
            findings.append(Finding(name, f"cannot be read: {failure}"))
        if not Path(name).name.startswith("synth_"):
            findings.append(Finding(name, "its name does not say that it is synthetic"))
    return found, findings


def _objects(folder: Path, names: list[str]) -> tuple[dict[str, Slice], list[Finding]]:
    found, findings = {}, []
    for name in (n for n in names if n.endswith(".dcm")):
        try:
            (found[name],) = read_slices(folder / name)
        except ValueError as failure:
            findings.append(Finding(name, f"cannot be read: {failure}"))
    return found, findings


def _identities(objects: Mapping[str, Slice]) -> Iterator[Finding]:
    """Marks and UIDs of every object."""
    seen: dict[str, str] = {}
    for name, one in objects.items():
        uid = one.text("SOPInstanceUID")
        if uid in seen:
            yield Finding(name, f"has the UID of {seen[uid]}")
        seen[uid] = name
        if one.text("SyntheticData") != "YES":
            yield Finding(name, "SyntheticData is not YES")
        if "SYNTH" not in one.text("SeriesDescription"):
            yield Finding(name, "its SeriesDescription does not say that it is synthetic")
        if one.text("SOPClassUID") == _MR_IMAGE and not one.text("ImageType").startswith("DERIVED\\SECONDARY"):
            yield Finding(name, "its ImageType does not say that it is derived")
    if len({one.text("StudyInstanceUID") for one in objects.values()}) > 1:
        yield Finding("dicom", "its objects belong to several studies")


def _series(folder: Path, objects: Mapping[str, Slice]) -> tuple[dict[str, Volume], list[Finding]]:
    """Each DICOM series as a volume, read the way an acquired one is read."""
    parts: dict[str, list[Slice]] = {}
    for name, one in objects.items():
        if one.text("SOPClassUID") == _MR_IMAGE:
            parts.setdefault(Path(name).parent.as_posix(), []).append(one)
    found, findings = {}, []
    for place, slices in parts.items():
        if len({s.text("SeriesInstanceUID") for s in slices}) > 1:
            findings.append(Finding(place, "its objects belong to several series"))
        try:
            found[_target(place)] = dicom.load_slices(place, slices)
        except (Unusable, Medk2nError) as failure:
            findings.append(Finding(place, str(failure)))
    return found, findings


def _agree(volumes: Mapping[str, Volume], placed: Mapping[str, Volume]) -> Iterator[Finding]:
    """NIfTI and DICOM of one target put the same numbers in the same places."""
    for target in volumes.keys() & placed.keys():
        a, b = volumes[target], placed[target]
        if a.grid.same_place(b.grid):
            mirrored = b.array
        elif a.grid.same_place(_turned(b).grid):
            mirrored = _turned(b).array
        else:
            yield Finding(f"dicom/synth_{target}", "lies elsewhere than the NIfTI file")
            continue
        if not np.array_equal(a.array, mirrored):
            yield Finding(f"dicom/synth_{target}", "holds other voxels than the NIfTI file")


def _turned(volume: Volume) -> Volume:
    """The same slices, counted from the other end."""
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_lps(np.array([0.0, 0.0, volume.grid.shape[2] - 1.0]))
    affine[:3, 2] *= -1
    return Volume(volume.array[:, :, ::-1], type(volume.grid)(volume.grid.shape, affine, volume.grid.frame))


def _reports(folder: Path, names: list[str]) -> Iterator[Finding]:
    """Report and sidecars say synthetic, and the report speaks of the volumes that are there."""
    for name in (n for n in names if n.endswith(".json")):
        stored = _json(folder / name)
        if stored.get("synthetic") is not True:
            yield Finding(name, "does not say that the images are synthetic")
        if name == "report.json":
            told = {str(t.get("modality")) for t in stored.get("targets", ()) if isinstance(t, dict)}
            there = {_target(n) for n in names if nifti.is_nifti(Path(n)) or (n.startswith("dicom/synth_") and n.count("/") == 2)}
            if told != there:
                yield Finding(name, f"speaks of {', '.join(sorted(told))}; the images are {', '.join(sorted(there))}")


def _json(file: Path) -> dict[str, Any]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _target(name: str) -> str:
    """``dicom/synth_FLAIR/synth_FLAIR_0001.dcm`` or ``synth_FLAIR.nii.gz`` -> FLAIR."""
    parts = Path(name).parts
    word = parts[1] if len(parts) > 1 else parts[0]
    return word.removeprefix("synth_").split(".")[0]
