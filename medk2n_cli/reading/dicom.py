"""DICOM files -> series with a grid and a contrast, or the reason why not; voxels of the chosen ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.config import IGNORE
from pydicom.uid import UID

from medk2n_cli.core.study import Series
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading.dicom_geometry import Unusable, stack
from medk2n_cli.reading.dicom_group import by_series, volumes, without_copies
from medk2n_cli.reading.dicom_headers import MR_CLASSES, Slice, read_slices
from medk2n_cli.reading.dicom_pixels import check_size, images
from medk2n_cli.reading.dicom_recognise import B_WEIGHTED, recognise_slices
from medk2n_cli.reading.quiet import unwarned
from medk2n_cli.reading.recognise import Recognition
from medk2n_cli.reading.rules import FILE, Rules

_TIME, _FEW_TIMES = "time", 2
_SHORTEST_NAME = 3  # what is shorter is part of too many other words
_LONGEST_LABEL = 120  # characters: a number of 12, a description of 64, and the words that tell volumes apart
_UID = re.compile(r"[0-9.]{1,64}")


def read_series(files: Iterable[tuple[Path, str]], rules: Rules | None = None) -> list[Series]:
    """(file, label) pairs -> every volume they hold, used or not, by series number; nothing is raised."""
    rules = rules or Rules()
    found: list[Slice] = []
    refused: list[Series] = []
    for file, label in files:
        try:
            found += read_slices(file, rules.keywords)
        except ValueError as failure:
            refused.append(Series(label, (file,), None).refused("NOT_AN_IMAGE", str(failure)))
    series = [one for part in by_series(found).values() for one in _volumes(part, rules)]
    return _labelled(sorted(series, key=lambda s: (s.number or 0, s.label))) + refused


def _volumes(part: Sequence[Slice], rules: Rules) -> list[Series]:
    """One series UID -> its volumes."""
    first = part[0]
    if first.text("SOPClassUID") not in MR_CLASSES:
        return [_series(part, "").refused("NOT_AN_IMAGE", f"not an MR image ({_class_name(first)})")]
    once, copies = without_copies(part)
    split = volumes(once)
    note = (f"{copies} identical copies of slices were left out",) if copies else ()
    strongest = max((s.number("DiffusionBValue") or 0.0 for s in once), default=0.0)
    times = sum(f" {_TIME} " in f" {words} " for words, _ in split)
    found = []
    for words, slices in split:
        one = _volume(words, slices, rules)
        one = replace(one, notes=(*note, *one.notes))
        b = slices[0].number("DiffusionBValue")
        if times > _FEW_TIMES:
            one = one.refused("NOT_A_CONTRAST", f"one of {times} time points of a series")
        elif b is not None and b < B_WEIGHTED <= strongest:
            one = one.refused("NOT_A_CONTRAST", f"a diffusion series' images with b {b:g}")
        found.append(one)
    turned = {s.code for s in found} == {"TOO_FEW_SLICES"} and len(found) > 1
    if turned:
        return [
            _series(once, "").refused("MIXED_ORIENTATION", f"its {len(once)} slices lie in {len(found)} orientations or sizes")
        ]
    return found


def _volume(words: str, slices: Sequence[Slice], rules: Rules) -> Series:
    series = _series(slices, words)
    said = _said(series, slices[len(slices) // 2], rules)
    series = replace(series, modality=said.modality, evidence=said.evidence)
    if said.code in ("NOT_A_CONTRAST", "SYNTHETIC"):
        return series.refused(said.code, said.evidence)
    try:
        stacked = stack(slices)
    except Unusable as problem:
        return series.refused(problem.code, str(problem))
    ordered = tuple(s.file for s in stacked.slices), tuple(s.frame for s in stacked.slices)
    series = replace(series, files=ordered[0], frames=ordered[1], grid=stacked.grid, notes=stacked.notes)
    return series if said.modality is not None else series.refused(said.code, said.evidence)


def _said(series: Series, middle: Slice, rules: Rules) -> Recognition:
    """What the site's rules say, else what headers tell; a synthetic image stays one."""
    said = recognise_slices(middle)
    rule = rules.first(lambda keyword: series.label if keyword == FILE else middle.text(keyword))
    if rule is None or said.code == "SYNTHETIC":
        return said
    if rule.modality is None:
        return Recognition(None, f"left out by {rule.name}", "NOT_A_CONTRAST")
    return Recognition(rule.modality, f"by {rule.name}")


def _series(slices: Sequence[Slice], words: str) -> Series:
    """What its first slice tells of a series; the label is what a console shows: number and description."""
    first = slices[0]
    number, description = first.text("SeriesNumber"), first.text("SeriesDescription") or first.text("ProtocolName")
    label = " ".join(part for part in (number or "?", description, words) if part)
    patient = f"{first.text('PatientID')}\\{first.text('PatientName')}"
    return Series(
        _nameless(printable(label), first)[:_LONGEST_LABEL],
        tuple(dict.fromkeys(s.file for s in slices)),
        None,
        names=tuple(n for n in (number, description, first.text("SeriesInstanceUID")) if n),
        study=_uid(first.text("StudyInstanceUID")),
        patient=_digest(patient),
    )


def _nameless(text: str, one: Slice) -> str:
    """Free text without the patient: labels go to logs and reports."""
    whole = (one.text(name) for name in ("PatientID", "PatientBirthDate", "AccessionNumber"))
    words = {*re.split(r"[\^=,\s\\]+", one.text("PatientName")), *whole}
    for word in sorted((w for w in words if len(w) >= _SHORTEST_NAME), key=len, reverse=True):
        text = re.sub(re.escape(word), "***", text, flags=re.IGNORECASE)
    return text


def printable(text: str) -> str:
    """One line that a terminal shows as it stands."""
    return "".join(c if c.isprintable() else " " for c in text)


def _uid(text: str) -> str:
    """A UID is cited in commands and names folders, so that anything else by its name is replaced by its digest."""
    return text if not text or _UID.fullmatch(text) else f"study_{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]


def _class_name(one: Slice) -> str:
    uid = one.text("SOPClassUID")
    name = UID(uid, validation_mode=IGNORE).name
    return name if uid and name != uid else "of no class that DICOM knows"


def _labelled(series: list[Series]) -> list[Series]:
    """Labels that tell all series apart: a repeated one gets a number."""
    seen: dict[str, int] = {}
    told = []
    for one in series:
        seen[one.label] = seen.get(one.label, 0) + 1
        told.append(one if seen[one.label] == 1 else replace(one, label=f"{one.label} ({seen[one.label]})"))
    return told


def load_slices(label: str, slices: Sequence[Slice]) -> Volume:
    """The voxels of slices that form one volume, whatever they show: how a written result is read again.

    Raises:
        Unusable: they form no volume.
        StudyError: as `load_volume`.
    """
    stacked = stack(slices)
    files, frames = tuple(s.file for s in stacked.slices), tuple(s.frame for s in stacked.slices)
    return load_volume(Series(label, files, stacked.grid, frames=frames))


def load_volume(series: Series) -> Volume:
    """Voxels of a series, rescaled as its headers say.

    Raises:
        StudyError: VANISHED, MISSING_PIXELS, UNSUPPORTED_TRANSFER_SYNTAX, TRUNCATED, BAD_RESCALE, NAN_VOXELS or EMPTY_VOLUME.
    """
    assert series.grid is not None
    check_size(series)
    array = np.empty(series.grid.shape, np.float32)
    with unwarned():
        for file in dict.fromkeys(series.files):
            wanted = [(k, series.frames[k]) for k, f in enumerate(series.files) if f == file]
            for (k, _), image in zip(wanted, images(series, file, [frame for _, frame in wanted]), strict=True):
                if image.T.shape != array.shape[:2]:
                    shape = " x ".join(str(n) for n in image.shape)
                    raise series.unreadable("TRUNCATED", f"slice {k + 1} has {shape} pixels")
                array[:, :, k] = image.T
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise series.unreadable("NAN_VOXELS", "its rescaled values leave the range of numbers")
    if low == high:
        raise series.unreadable("EMPTY_VOLUME", f"every voxel is {low:g}")
    return Volume(array, series.grid)
