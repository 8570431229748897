"""The output folder: opened before any work, filled aside, and put in place at the end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medk2n_cli.core.errors import OutputError

MANIFEST = "result.json"
RESULT_SCHEMA = "medk2n.result/1"
_STAGING = ".medk2n-part-"


@dataclass(frozen=True)
class OutputFolder:
    """Where results go. Writers put files into `staging`; `commit` moves them to `path`, the manifest last."""

    path: Path
    staging: Path

    def commit(self) -> None:
        """Put everything in place. What an earlier result left and this one does not have is removed.

        Raises:
            OutputError: the files cannot be moved.
        """
        with _explained(self.path):
            ours, new = _listed(self.path), {f.relative_to(self.staging).as_posix() for f in _files(self.staging)}
            present = {name for name in new if (self.path / name).exists()}
            _refuse_foreign(self.path, present - ours - ({MANIFEST} if _is_ours(self.path) else set()))
            (self.path / MANIFEST).unlink(missing_ok=True)
            for name in sorted(new, key=lambda n: n == MANIFEST):
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.staging / name, self.path / name)
            _remove(self.path, ours - new)


@contextmanager
def open_folder(path: Path, overwrite: bool) -> Iterator[OutputFolder]:
    """A folder that can be written, and nothing left behind in it unless `commit` was called.

    Raises:
        OutputError: not a folder, not empty (without `overwrite`), or not writable.
    """
    created = not path.exists()
    with _explained(path):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file, not a folder.", next_step="Give a folder to --out.", code="OUT_IS_FILE")
        path.mkdir(parents=True, exist_ok=True)
        if not overwrite and any(not f.name.startswith(_STAGING) for f in path.iterdir()):
            raise OutputError(
                f"The output folder {path} is not empty.",
                next_step="Give another --out, or --overwrite to replace an earlier result in it.",
                code="OUT_NOT_EMPTY",
            )
        if (path / MANIFEST).exists() and not _is_ours(path):
            _refuse_foreign(path, {MANIFEST})
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=path))
        staging.chmod(0o755)
    try:
        yield OutputFolder(path, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if created and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise unwritable(path, failure) from failure


def unwritable(path: Path, failure: OSError) -> OutputError:
    """A full disk, a missing right, a vanished mount: said in one line."""
    return OutputError(
        f"Cannot write to {path}: {failure.strerror or failure}.",
        next_step="Free some space or choose another folder with --out; nothing was left half-written.",
        code="CANNOT_WRITE",
    )


def _listed(path: Path) -> set[str]:
    """Files below `path` that the manifest of an earlier result of ours lists."""
    try:
        names = {PurePosixPath(str(f["file"])) for f in _manifest(path)["outputs"]} if _is_ours(path) else set()
    except (KeyError, TypeError):
        return set()
    return {n.as_posix() for n in names if not n.is_absolute() and ".." not in n.parts}


def _files(folder: Path) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file()]


def _remove(path: Path, names: set[str]) -> None:
    """Files of an earlier result, and the folders that are empty without them."""
    for name in names:
        (path / name).unlink(missing_ok=True)
    folders = {p for name in names for p in PurePosixPath(name).parents} - {PurePosixPath(".")}
    for folder in sorted(folders, key=lambda f: -len(f.parts)):
        if (path / folder).is_dir() and not any((path / folder).iterdir()):
            (path / folder).rmdir()


def _is_ours(path: Path) -> bool:
    return _manifest(path).get("schema") == RESULT_SCHEMA


def _manifest(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _refuse_foreign(path: Path, names: set[str]) -> None:
    """Files by the names of ours that no result of ours lists belong to somebody else."""
    if names:
        raise OutputError(
            f"{path} holds files that are not of an earlier result: {', '.join(sorted(names))}.",
            next_step="Give another --out; nothing was replaced.",
            code="FOREIGN_FILES",
        )
