"""Slices -> the volumes they form. PACS re-exports mix, and vendors give one series UID to many volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from medk2n_cli.reading.dicom_headers import Slice

Key = Callable[[Slice], Hashable]


def by_series(slices: Iterable[Slice]) -> dict[tuple[str, str], list[Slice]]:
    """(study UID, series UID) -> slices, in the order they were found."""
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for one in slices:
        found[one.text("StudyInstanceUID"), one.text("SeriesInstanceUID")].append(one)
    return dict(found)


def volumes(series: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """One series -> its volumes, each with the words that tell it from the others (empty where there is one)."""
    parts = [("", list(series))]
    for key, words in _ALWAYS:
        parts = [split for label, part in parts for split in _split(label, part, key, words)]
    for key, words in _WHERE_PLACES_REPEAT:
        parts = [
            split for label, part in parts for split in (_split(label, part, key, words) if _repeats(part) else [(label, part)])
        ]
    return parts


def without_copies(part: Sequence[Slice]) -> tuple[list[Slice], int]:
    """The slices, each SOP instance and frame once, and how many copies were dropped."""
    once = {(s.text("SOPInstanceUID") or str(s.file), s.frame): s for s in reversed(part)}
    kept = [s for s in part if once[s.text("SOPInstanceUID") or str(s.file), s.frame] is s]
    return kept, len(part) - len(kept)


def _split(label: str, part: list[Slice], key: Key, words: str) -> list[tuple[str, list[Slice]]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for one in part:
        groups[key(one)].append(one)
    if len(groups) < 2:
        return [(label, part)]
    return [(f"{label} {words} {_said(value)}".strip(), group) for value, group in groups.items()]


def _said(value: Hashable) -> str:
    if isinstance(value, tuple):
        return " ".join(_said(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _repeats(part: Sequence[Slice]) -> bool:
    places = {tuple(np.round(s.position, 2).tolist()) for s in part if s.position is not None}
    return len(places) < len(part)


def _orientation(one: Slice) -> Hashable:
    if one.along_row is None or one.along_column is None:
        return None
    return tuple(np.round(np.concatenate([one.along_row, one.along_column]), 2).tolist())


def _kind(one: Slice) -> Hashable:
    return one.text("ImageType") or one.text("FrameType")


def _number(name: str) -> Key:
    return lambda one: one.number(name)


_ALWAYS: tuple[tuple[Key, str], ...] = ((lambda s: s.shape, "size"), (_orientation, "orientation"))
_WHERE_PLACES_REPEAT: tuple[tuple[Key, str], ...] = (
    (_kind, ""),
    (lambda s: s.number("EffectiveEchoTime") or s.number("EchoTime"), "TE"),
    (_number("DiffusionBValue"), "b"),
    (_number("TemporalPositionIdentifier"), "time"),
    (_number("TemporalPositionIndex"), "time"),
    (_number("AcquisitionNumber"), "acquisition"),
)
