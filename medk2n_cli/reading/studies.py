"""An export of many studies -> the studies in it: DICOM by study UID wherever its files lie, NIfTI by folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from medk2n_cli.core.study import Series
from medk2n_cli.digest import sha256_of
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
    """

    name: str
    where: tuple[Path, ...]
    uid: str | None

    def nameless(self) -> FoundStudy:
        """The same study, named by a digest: UIDs and folders' names lead back to the patient."""
        return replace(self, name=f"study_{_short(_identity(self))}")


def find_studies(root: Path, without: Path | None = None) -> list[FoundStudy]:
    """Every study below a folder, by name; headers only. DICOM without a study UID counts by its folder, like NIfTI, so that
    what is wrong with it is told. What lies below `without`, where results go, is none.

    Raises:
        StudyError: the folder does not exist.
    """
    by_uid: dict[str, list[Path]] = defaultdict(list)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    results = without.resolve() if without else None
    for one in scan([root]).series:
        if results and one.files and one.files[0].resolve().is_relative_to(results):
            continue
        if one.is_dicom and one.study:
            by_uid[one.study] += one.files
        else:
            for file in one.files:
                by_folder[_subject(file if one.code == "CLOSED" and file.is_dir() else file.parent)].append(file)
    top = root.resolve()
    dicom = [FoundStudy(_safe(uid), tuple(dict.fromkeys(files)), uid) for uid, files in by_uid.items()]
    loose = [FoundStudy(_safe(_relative(folder, top)), tuple(files), None) for folder, files in by_folder.items()]
    return _told_apart(sorted(dicom + loose, key=lambda s: s.name))


def _told_apart(studies: list[FoundStudy]) -> list[FoundStudy]:
    """Names that are one and the same to a file system get a digest: `a/b` and `a_b`, or a folder called like a UID."""
    times = Counter(s.name.lower() for s in studies)
    return [s if times[s.name.lower()] == 1 else replace(s, name=f"{s.name[:80]}_{_short(_identity(s))}") for s in studies]


def _identity(study: FoundStudy) -> str:
    return study.uid or str(study.where[0].parent)


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
