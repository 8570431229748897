"""One file that holds a weights pair, for a host without internet: NAME.onnx, NAME.json, README.md."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

from medk2n_cli.core.errors import OutputError, WeightsError
from medk2n_cli.model.card import ModelCard, card_file
from medk2n_cli.model.store import Weights

SUFFIX = ".medk2n.zip"
README = "README.md"
# What may become part of a file's name. A card and an archive are written by others, so neither is trusted with a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_VERSION = re.compile(r"[A-Za-z0-9]+([.+_-][A-Za-z0-9]+)*")
_LONGEST = 64
_ENCRYPTED = 1  # bit 0 of the general purpose flag, APPNOTE 4.4.4
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the same weights give the same bytes


def stored_name(card: ModelCard) -> str:
    """NAME@VERSION, under which pulled and imported weights are kept.

    Raises:
        WeightsError: the card's name or version cannot be part of a file's name.
    """
    for word, pattern in ((card.name, _NAME), (card.version, _VERSION)):
        if not isinstance(word, str) or len(word) > _LONGEST or not pattern.fullmatch(word):
            raise WeightsError(
                f"The card's name or version {str(word)[:_LONGEST]!r} cannot be part of a file's name.",
                next_step="Ask whoever made the weights for a name of letters, digits, '-', '_' and single dots.",
                code="BAD_CARD",
            )
    return f"{card.name}@{card.version}"


def readme_of(onnx_file: Path) -> Path | None:
    """The text for people beside a weights file, where there is one."""
    own, shared = onnx_file.with_suffix(".md"), onnx_file.with_name(README)
    return own if own.is_file() else shared if shared.is_file() else None


def write_archive(weights: Weights, file: Path) -> None:
    """The pair and its README as one file; the same weights always give the same bytes.

    Raises:
        WeightsError: the card's name cannot be a file's name.
        OutputError: the file cannot be written.
    """
    stored_name(weights.card)
    name, readme = weights.card.name, readme_of(weights.file)
    members = {f"{name}.json": card_file(weights.file), f"{name}.onnx": weights.file} | ({README: readme} if readme else {})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".medk2n-part-") as folder:
            part = Path(folder) / "part"
            with zipfile.ZipFile(part, "w") as archive:
                for member, source in members.items():
                    _add(archive, member, source)
            os.replace(part, file)
    except OSError as failure:
        raise OutputError(
            f"{file} cannot be written: {failure.strerror or failure}.", next_step="Give another --out.", code="CANNOT_WRITE"
        ) from failure


def read_archive(file: Path, folder: Path) -> Path:
    """Unpack into an empty folder; the ONNX file there. What is in it is not verified yet.

    Raises:
        WeightsError: not an archive that `write_archive` wrote.
        OutputError: no room in the folder.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name = _only_pair(archive, file)
            for member in archive.infolist():
                with archive.open(member) as source, (folder / member.filename).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except FileNotFoundError as failure:
        raise WeightsError(f"There is no file {file}.", next_step="Check the path.", code="ARCHIVE_NOT_FOUND") from failure
    except (zipfile.BadZipFile, ValueError) as failure:  # ValueError: names that are no text
        raise _not_ours(file, str(failure)) from failure
    except OSError as failure:
        raise OutputError(
            f"{file} cannot be unpacked to {folder.parent}: {failure.strerror or failure}.",
            next_step="Check the file, and the room on that disk.",
            code="CANNOT_WRITE",
        ) from failure
    return folder / f"{name}.onnx"


def _add(archive: zipfile.ZipFile, member: str, source: Path) -> None:
    # Not compressed: weights hardly shrink, compressors differ between machines, and nothing can swell when it is unpacked.
    entry = zipfile.ZipInfo(member, _EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever it is made
    entry.file_size = source.stat().st_size
    with source.open("rb") as stream, archive.open(entry, "w") as target:
        shutil.copyfileobj(stream, target)


def _only_pair(archive: zipfile.ZipFile, file: Path) -> str:
    """NAME, where the archive holds NAME.onnx, NAME.json, perhaps README.md, and nothing else."""
    members = archive.infolist()
    found = sorted(m.filename for m in members)
    stems = [n.removesuffix(".onnx") for n in found if n.endswith(".onnx")]
    wanted = [f"{s}{kind}" for s in stems for kind in (".json", ".onnx")]
    if len(stems) != 1 or not _NAME.fullmatch(stems[0]) or sorted({*found} - {README}) != sorted(wanted):
        raise _not_ours(file, f"it holds {', '.join(found)[:120] or 'nothing'}")
    if len(found) != len(set(found)) or any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & _ENCRYPTED for m in members):
        raise _not_ours(file, "its members are repeated, compressed or encrypted")
    return stems[0]


def _not_ours(file: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{file.name} is not a file that medk2n weights export wrote, or it was cut short: {why}.",
        next_step="Make it again with: medk2n weights export NAME --out FILE, and compare its digest after the transport.",
        code="BAD_ARCHIVE",
    )
