"""An export of many studies -> the studies in it: DICOM by study UID wherever its files lie, NIfTI by folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medk2n_cli.core.study import CLOSED_FOLDER, ZIPPED, Series
from medk2n_cli.digest import sha256_of
from medk2n_cli.reading.person import subject_and_session
from medk2n_cli.reading.scan import scan

_DATA_TYPES = ("anat", "dwi", "perf", "func", "fmap")  # BIDS: what lies below a subject or session
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # no leading dot, which hides, and no dash, which is an option
_DEVICES = (f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))
_TAKEN = {"batch", "con", "prn", "aux", "nul", *_DEVICES}  # the batch's own tables; what Windows keeps for itself


@dataclass(frozen=True)
class FoundStudy:
    """One study of an export.

    Attributes:
        name: for its result folder: the UID of a DICOM study, the relative folder of a NIfTI one; safe on every file
            system, whatever the headers say.
        where: its files.
        uid: of a DICOM study, else None.
        folder: of a study without one.
    """

    name: str
    where: tuple[Path, ...]
    uid: str | None
    folder: Path | None = None

    def nameless(self) -> FoundStudy:
        """The same study, named by a digest: UIDs and folders' names lead back to the patient."""
        return replace(self, name=f"study_{_short(_identity(self))}")


def find_studies(root: Path, without: Path | None = None) -> list[FoundStudy]:
    """Every study below a folder, a zip counting as one, by name; headers only. DICOM without a study UID counts by its
    folder, like NIfTI, so that what is wrong with it is told. What lies below `without`, where results go, is none.

    Raises:
        StudyError: the folder does not exist.
    """
    by_uid: dict[str, list[Path]] = defaultdict(list)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    closed: list[Series] = []
    zipped: list[Path] = []
    results = without.resolve() if without else None
    for one in scan([root]).series:
        if results and one.files and one.files[0].resolve().is_relative_to(results):
            continue
        if one.code == ZIPPED:
            zipped.append(one.files[0])
        elif one.is_closed:
            closed.append(one)
        elif one.is_dicom and one.study:
            by_uid[one.study] += one.files
        else:
            for file in one.files:
                by_folder[_subject(file.parent)].append(file)
    for one in closed:
        for files in _around(one, by_uid, by_folder, root):
            files.append(one.files[0])
    top = root.resolve()
    dicom = [FoundStudy(_safe(uid), tuple(dict.fromkeys(files)), uid) for uid, files in by_uid.items()]
    loose = [
        FoundStudy(_safe("_".join(part for part in (_relative(folder, top), person) if part)), tuple(mine), None, folder / person)
        for folder, files in by_folder.items()
        for person, mine in _people(folder, files).items()
    ]
    packed = [
        FoundStudy(_safe(_relative(zipped_file.with_suffix(""), top)), (zipped_file,), None, zipped_file)
        for zipped_file in zipped
    ]
    return _told_apart(sorted(dicom + loose + packed, key=lambda s: s.name))


def _people(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of one folder by whose they are: several subjects or visits in a flat folder, told by their names."""
    by_person: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_person["_".join(part for part in subject_and_session(file.name) if part)].append(file)
    return by_person if len(by_person.keys() - {""}) > 1 else {"": list(files)}


def _around(closed: Series, by_uid: Mapping[str, list[Path]], by_folder: dict[Path, list[Path]], root: Path) -> list[list[Path]]:
    """The files of the studies that what is closed may belong to: all beside it, or the one in the folders beside it; where
    there is none, it is one of its own.
    """
    place, whole = closed.files[0], closed.code == CLOSED_FOLDER
    found = [files for files in by_uid.values() if any(f.parent == place.parent for f in files)]
    if _subject(place.parent) in by_folder:
        found.append(by_folder[_subject(place.parent)])
    if whole and not found and place.parent != root:  # below the root, the folders are patients
        below = [files for files in by_uid.values() if any(f.is_relative_to(place.parent) for f in files)]
        found = below if len(below) == 1 else []
    return found or [by_folder[place if whole else _subject(place.parent)]]


def _told_apart(studies: list[FoundStudy]) -> list[FoundStudy]:
    """Names that are one and the same to a file system get a digest: `a/b` and `a_b`, or a folder called like a UID."""
    times = Counter(s.name.lower() for s in studies)
    return [s if times[s.name.lower()] == 1 else replace(s, name=f"{s.name[:80]}_{_short(_identity(s))}") for s in studies]


def _identity(study: FoundStudy) -> str:
    return study.uid or str(study.folder)


def same_inputs(sources: Iterable[Series], listed: Iterable[tuple[str, str]]) -> bool:
    """Whether the files of these series are those that an earlier result lists by (label, SHA-256)."""
    now = [(s.shown, f) for s in sources for f in dict.fromkeys(s.files)]
    then = list(listed)
    return len(now) == len(then) and all(
        label == old and sha256_of(file) == sha for (label, file), (old, sha) in zip(now, then, strict=True)
    )


def _subject(folder: Path) -> Path:
    return folder.parent if folder.name in _DATA_TYPES else folder


def _relative(folder: Path, top: Path) -> str:
    resolved = folder.resolve()
    return "_".join(resolved.relative_to(top).parts) if resolved.is_relative_to(top) and resolved != top else top.name


def _safe(name: str) -> str:
    """A name from outside never decides a path: what is not plain is replaced by its digest."""
    plain = _NAME.fullmatch(name) and name[-1] != "." and name.split(".")[0].lower() not in _TAKEN
    return name if plain else f"study_{_short(name)}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
