"""folder or files -> Study. Headers only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading import dicom, nifti
from medk2n_cli.reading.finding import images
from medk2n_cli.reading.rules import FILE, Rules

_NAMED = "named by --use"
_NEVER = ("TRANSFORMS_DISAGREE", "SYNTHETIC")  # refusals that neither a rule nor naming a file lifts


def scan(
    where: Iterable[Path],
    use: Mapping[Modality, str] | None = None,
    study: str | None = None,
    rules: Rules | None = None,
    shown: Path | None = None,
) -> Study:
    """Every NIfTI file and DICOM series below the given folders, or the given files themselves.

    Args:
        where: folders (searched through) and files.
        use: overrules recognition: modality -> file, its label, or a glob that one label matches;
            of DICOM also series number, UID, or a glob of the description.
        study: of several DICOM studies, the UID of the one to take.
        rules: what a site calls its series; `use` overrules them, and they overrule recognition.
        shown: the name of the first place in messages, where it was unpacked from an archive.

    Raises:
        StudyError: a path does not exist, or an entry of `use` names no file or several.
    """
    places = list(where)
    found = images(places)
    rules, root = rules or Rules(), shown or places[0]
    closed = [f.refused() for f in found if f.closed]
    files = [(f.file, f.label) for f in found if not f.closed]
    series = [_ruled(nifti.read_series(file, label), rules) for file, label in files if nifti.is_nifti(file)]
    series += dicom.read_series(((file, label) for file, label in files if not nifti.is_nifti(file)), rules)
    if study is not None:
        series = list(Study(root, tuple(series)).of(study).series)
    series += closed
    for modality, name in (use or {}).items():
        series = _assign(series, modality, name)
    return Study(root, tuple(series))


def _ruled(series: Series, rules: Rules) -> Series:
    """A NIfTI file has a name and no tags."""
    rule = rules.first(lambda keyword: series.label if keyword == FILE else "")
    if rule is None or series.grid is None or series.code in (*_NEVER, "NO_ORIENTATION"):
        return series
    if rule.modality is None:
        return series.refused("RULED_OUT", f"left out by {rule.name}")
    return replace(series, modality=rule.modality, evidence=f"by {rule.name}", unused=None, code="")


def load(series: Mapping[Modality, Series]) -> dict[Modality, Volume]:
    """The voxels of the chosen series.

    Raises:
        StudyError: see `nifti.load_volume` and `dicom.load_volume`.
    """
    return {m: dicom.load_volume(one) if one.is_dicom else nifti.load_volume(one) for m, one in series.items()}


def _assign(series: list[Series], modality: Modality, name: str) -> list[Series]:
    """`name` stands for `modality`; whatever else looked like it steps back."""
    hits = [s for s in series if _named(s, name)]
    given = Path(name)
    if not hits and given.is_file():
        hits = [nifti.read_series(given, given.name)]
        series = [*series, *hits]
    if len(hits) != 1:
        what = "no file" if not hits else f"{len(hits)} files"
        raise StudyError(
            f"--use {modality.value}={name} names {what} of the study.",
            next_step="Give one label as medk2n scan prints it, or a path.",
            code="USE_NOT_FOUND",
        )
    chosen = hits[0]
    if chosen.grid is None or chosen.code in _NEVER:
        raise StudyError(
            f"--use {modality.value}={name}: {chosen.unused}.",
            next_step="Choose a readable, acquired 3-D image whose header says where left is.",
            code=chosen.code or "NOT_AN_IMAGE",
        )
    if chosen.evidence == _NAMED and chosen.modality is not None:
        raise StudyError(
            f"--use gives {chosen.label} to {chosen.modality.value} and to {modality.value}.",
            next_step="Give each modality its own file.",
            code="USED_TWICE",
        )
    notes = (*chosen.notes, nifti.NO_ORIENTATION) if chosen.code == "NO_ORIENTATION" else chosen.notes

    def settle(one: Series) -> Series:
        if one is chosen:
            return replace(one, modality=modality, evidence=_NAMED, unused=None, code="", notes=notes)
        if one.modality is modality and one.unused is None:
            return one.refused("OVERRULED", f"--use {modality.value} names another file")
        return one

    return [settle(s) for s in series]


def _named(series: Series, name: str) -> bool:
    path = Path(name)
    if path.exists() and path.resolve() == series.files[0].resolve():
        return True
    label = Path(series.label)
    if series.is_dicom:
        return name in (series.label, *series.names) or any(fnmatch.fnmatch(n, name) for n in series.names[1:2])
    return series.label == name or label.name == name or (path.name != "" and label.match(name))
