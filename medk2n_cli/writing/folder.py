"""The output folder: opened before any work, filled aside, and put in place at the end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medk2n_cli.core.errors import OutputError

MANIFEST, PAGE = "result.json", "report.html"
RESULT_SCHEMA = "medk2n.result/1"
_STAGING = ".medk2n-part-"
_KINDS = {"": "a synthesis", "audit": "an audit", "comparison": "a comparison"}
_JOURNAL, _OLD = _STAGING + "journal.json", ".old"


@dataclass(frozen=True)
class OutputFolder:
    """Where results go. Writers put files into `staging`; `commit` moves them to `path`, the manifest last."""

    path: Path
    staging: Path
    overwrite: bool = False

    def commit(self) -> None:
        """Put everything in place. What an earlier result left and this one does not have is removed.

        Where a file cannot be moved, the earlier result is put back as it was. A process killed in between leaves a
        journal, so that the next one knows whose the files are.

        Raises:
            OutputError: the files cannot be moved, or another process wrote here meanwhile.
        """
        with _explained(self.path):
            ours, new = _listed(self.path), {f.relative_to(self.staging).as_posix() for f in _files(self.staging)}
            if not self.overwrite and _foreign(self.path, ours):
                raise _not_empty(self.path)
            present = {name for name in new if (self.path / name).exists()}
            _refuse_foreign(self.path, present - ours)
            self._exchange(ours, new)

    def _exchange(self, ours: set[str], new: set[str]) -> None:
        journal, old = self.path / _JOURNAL, self.staging / _OLD
        staged = {"staging": self.staging.name, "ours": sorted(ours), "new": sorted(new)}
        journal.write_text(json.dumps(staged), encoding="utf-8")
        try:
            for name in sorted(ours, key=lambda n: n != MANIFEST):  # without its manifest a result is none
                if (self.path / name).is_file():
                    _move(self.path / name, old / name)
            for name in sorted(new, key=lambda n: n == MANIFEST):
                _move(self.staging / name, self.path / name)
        except BaseException:  # a stop as well
            self._restore(ours, new)
            journal.unlink(missing_ok=True)  # not where restoring failed: the next run must know whose files these are
            raise
        journal.unlink(missing_ok=True)
        _prune(self.path, ours - new)

    def _restore(self, ours: set[str], new: set[str]) -> None:
        old = self.staging / _OLD
        """Can be called again after it was itself cut short: nothing is deleted, and the new manifest goes first."""
        for name in sorted(new, key=lambda n: n != MANIFEST):
            if not (self.staging / name).exists() and (self.path / name).is_file():  # it was moved already
                _move(self.path / name, self.staging / name)
        for name in sorted(ours, key=lambda n: n == MANIFEST):
            if (old / name).is_file():
                _move(old / name, self.path / name)
        _prune(self.path, new - ours)


@contextmanager
def open_folder(path: Path, overwrite: bool, kind: str = "") -> Iterator[OutputFolder]:
    """A folder that can be written, and nothing left behind in it unless `commit` was called.

    kind: what will lie there (audit, comparison; a synthesis has none): nothing of another kind is ever replaced.

    Raises:
        OutputError: not a folder, a name that is no UTF-8, not empty (without `overwrite`), of another kind, or not writable.
    """
    _refuse_unencodable(path)
    created = not path.exists()
    with _explained(path):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file, not a folder.", next_step="Give a folder to --out.", code="OUT_IS_FILE")
        path.mkdir(parents=True, exist_ok=True)
        remove_dead(path)
        if not overwrite and _foreign(path, _listed(path)):
            raise _not_empty(path)
        if (path / MANIFEST).exists() and not _is_ours(path):
            _refuse_foreign(path, {MANIFEST})
        if (held := _manifest(path).get("kind", "") if _is_ours(path) else kind) != kind:
            raise OutputError(
                f"{path} holds {_KINDS.get(held, 'another result')}, which {_KINDS.get(kind, 'this')} does not replace.",
                next_step="Give another --out; nothing was replaced.",
                code="OTHER_RESULT",
            )
        staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{socket.gethostname()}-{os.getpid()}-", dir=path))
        staging.chmod(0o755)
    try:
        yield OutputFolder(path, staging, overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):
            if created and not any(path.iterdir()):
                path.rmdir()


def _refuse_unencodable(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as failure:  # libraries that write images end the process on such a name
        raise OutputError(
            "The name of the output folder is no UTF-8.", next_step="Give another name to --out.", code="BAD_NAME"
        ) from failure


def leftovers(path: Path) -> list[Path]:
    """What runs that were killed left behind, not yet removed."""
    return sorted(path.glob(f"{_STAGING}*"))


def _foreign(path: Path, ours: set[str]) -> list[Path]:
    """Files that are neither staged nor of a result of ours, where that result may be replaced."""
    hidden = {p for p in path.iterdir() if p.name.startswith(_STAGING)}
    files = [f for p in set(path.iterdir()) - hidden for f in ([p] if p.is_file() else _files(p) or [p])]
    return [f for f in files if f.relative_to(path).as_posix() not in ours or (path / MANIFEST).exists()]


def _not_empty(path: Path) -> OutputError:
    return OutputError(
        f"The output folder {path} is not empty.",
        next_step="Give another --out, or --overwrite to replace an earlier result in it.",
        code="OUT_NOT_EMPTY",
    )


def remove_leftovers(path: Path) -> None:
    """Staging of whatever run, on whatever machine: only for who knows that none of them is alive."""
    _remove(path, [place for place in leftovers(path) if place.is_dir()])


def remove_dead(path: Path) -> None:
    """Staging folders of processes of this machine that are no more: they may hold a patient's images.

    One that was killed while it exchanged files is undone first: its staging holds the earlier result.

    Raises:
        OSError: it cannot be undone; nothing is removed then.
    """
    dead = []
    for place in leftovers(path):
        host, _, rest = place.name.removeprefix(_STAGING).rpartition("-")[0].rpartition("-")
        if place.is_dir() and host == socket.gethostname() and rest.isdigit() and not _alive(int(rest)):
            dead.append(place)
    _remove(path, dead)


def _remove(path: Path, dead: list[Path]) -> None:
    journal = _journal(path)
    for place in dead:
        if place.name == journal.get("staging"):
            _undo(OutputFolder(path, place), journal)
        shutil.rmtree(place, ignore_errors=True)


def _undo(cut_short: OutputFolder, journal: dict[str, Any]) -> None:
    """The earlier result back in its place; where the new manifest is in place already, all the new files are."""
    ours, new = _safe(journal["ours"]), _safe(journal["new"])
    if MANIFEST in new and not (cut_short.staging / MANIFEST).exists():
        _prune(cut_short.path, ours - new)
    else:
        cut_short._restore(ours, new)
    (cut_short.path / _JOURNAL).unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # no signal 0 there: let it be
        return True
    with suppress(OSError, IndexError):  # killed, but its parent has not asked how it ended
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _move(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    os.replace(file, to)


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
    """Files below `path` of an earlier result of ours, by its manifest, or of a commit that was cut short, by its journal."""
    try:
        stored = [f["file"] for f in _manifest(path)["outputs"]] + [MANIFEST] if _is_ours(path) else []
    except (KeyError, TypeError):
        stored = [MANIFEST]
    journal = _journal(path)
    return _safe([*stored, *journal.get("ours", []), *journal.get("new", [])])


def _journal(path: Path) -> dict[str, Any]:
    """What a commit that was cut short had begun; empty where none was, or where the journal is damaged."""
    with suppress(OSError, ValueError):
        stored = json.loads((path / _JOURNAL).read_text(encoding="utf-8"))
        if isinstance(stored, dict) and all(isinstance(stored.get(k), list) for k in ("ours", "new")):
            return stored
    return {}


def _safe(stored: list[Any]) -> set[str]:
    """Names below the folder; whatever points out of it is none of ours."""
    names = {PurePosixPath(str(n)) for n in stored}
    return {n.as_posix() for n in names if not n.is_absolute() and ".." not in n.parts}


def _files(folder: Path) -> list[Path]:
    old = folder / _OLD
    return [f for f in folder.rglob("*") if f.is_file() and not f.is_relative_to(old)]


def _prune(path: Path, names: set[str]) -> None:
    """Folders that are empty without these files."""
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
