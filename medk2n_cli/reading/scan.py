"""folder or files -> Study. Headers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading import nifti

_NAMED = "named by --use"
_NEVER = ("TRANSFORMS_DISAGREE", "SYNTHETIC")  # refusals that naming a file does not lift


def scan(where: Iterable[Path], use: Mapping[Modality, str] | None = None) -> Study:
    """Every NIfTI file below the given folders, or the given files themselves.

    Args:
        where: folders (searched through) and files.
        use: overrules recognition: modality -> file, its label, or a glob that one label matches.

    Raises:
        StudyError: a path does not exist, or an entry of `use` names no file or several.
    """
    places = list(where)
    series = [nifti.read_series(file, label) for file, label in _files(places)]
    for modality, name in (use or {}).items():
        series = _assign(series, modality, name)
    return Study(places[0], tuple(series))


def load(series: Mapping[Modality, Series]) -> dict[Modality, Volume]:
    """The voxels of the chosen series.

    Raises:
        StudyError: see `nifti.load_volume`.
    """
    return {modality: nifti.load_volume(one) for modality, one in series.items()}


def _files(places: list[Path]) -> list[tuple[Path, str]]:
    found: dict[Path, str] = {}
    for place in places:
        if place.is_dir():
            for file in sorted(f for f in place.rglob("*") if nifti.is_nifti(f) and f.is_file()):
                found.setdefault(file.resolve(), _printable(file.relative_to(place).as_posix()))
        elif place.exists():
            found.setdefault(place.resolve(), _printable(place.name))
        else:
            raise StudyError(f"{place} does not exist.", next_step="Check the path given to --in.", code="NOT_FOUND")
    return list(found.items())


def _printable(name: str) -> str:
    """File names may hold bytes that are no UTF-8; reports are."""
    return name.encode("utf-8", "replace").decode("utf-8")


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
    return series.label == name or label.name == name or (path.name != "" and label.match(name))
