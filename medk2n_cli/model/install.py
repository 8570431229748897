"""Put a weights pair into the user's folder: verified first, moved into place last."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import OutputError, WeightsError
from medk2n_cli.model.archive import readme_of, stored_name
from medk2n_cli.model.card import ModelCard, card_file, read_card
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import find, installed, is_embedded, user_folder

SOURCE_SCHEMA = "medk2n.weights-source/1"
_SOURCE = ".source.json"


@dataclass(frozen=True)
class Installed:
    """Weights as `find` will find them.

    Attributes:
        name: for --weights.
        file: the ONNX file.
        new: False where the very same weights were there already.
    """

    name: str
    file: Path
    card: ModelCard
    new: bool


@contextmanager
def staging() -> Iterator[Path]:
    """A folder for unfinished files beside where they will lie, gone afterwards. Opened before any work, as output folders are.

    Raises:
        OutputError: the user's weights folder cannot be written.
    """
    with _explained():
        user_folder().mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=user_folder(), prefix=".part-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(onnx_file: Path, source: Mapping[str, str], digest: str = "") -> Installed:
    """Copy a pair to the user's folder as NAME@VERSION, the card last: a file without a card is no weights.

    Args:
        onnx_file: with its card beside it, and perhaps a README.
        source: where it came from, kept beside it in plain JSON.
        digest: the sha256 it must have, beside that of its card.

    Raises:
        WeightsError: no or bad card, wrong digest, not a graph of the card's contract, or other weights have that name.
        OutputError: the user's weights folder cannot be written.
    """
    name = stored_name(read_card(onnx_file))
    with staging() as folder:
        staged = folder / f"{name}.onnx"
        with _explained():
            _copy(onnx_file, staged, source)
        # The copies are verified, not the originals: what was checked is what stays.
        weights = find(str(staged))
        if digest and digest != weights.card.sha256:
            raise _another(onnx_file.name, weights.card, digest)
        open_session(weights, choose_device("cpu", 1))
        if there := _already(name, weights.card):
            return Installed(there.stem, there, weights.card, new=False)
        with _explained():
            for file in sorted(folder.iterdir(), key=lambda f: f == card_file(staged)):
                os.replace(file, user_folder() / file.name)
    return Installed(name, user_folder() / staged.name, weights.card, new=True)


def source_of(onnx_file: Path) -> dict[str, str]:
    """Where installed weights came from, as `install` was told; empty where nothing is known."""
    try:
        stored = json.loads(onnx_file.with_suffix(_SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _copy(onnx_file: Path, staged: Path, source: Mapping[str, str]) -> None:
    shutil.copyfile(onnx_file, staged)
    shutil.copyfile(card_file(onnx_file), card_file(staged))
    if readme := readme_of(onnx_file):
        shutil.copyfile(readme, staged.with_suffix(".md"))
    staged.with_suffix(_SOURCE).write_text(json.dumps({"schema": SOURCE_SCHEMA, **source}, indent=1) + "\n", encoding="utf-8")


def _already(name: str, card: ModelCard) -> Path | None:
    """The same weights, where they are installed whole; None where there is room for them, or a damaged copy to replace.

    Raises:
        WeightsError: NAME_TAKEN, other weights of that name and version.
    """
    for stem, file in installed().items():
        if stem not in (name, card.name):
            continue
        try:
            known = read_card(file)
        except WeightsError:
            continue
        if (known.version, known.sha256) == (card.version, card.sha256):
            if _whole(file):
                return file
        elif known.version == card.version:
            raise _taken(name, file, known, card)
    return None


def _whole(file: Path) -> bool:
    try:
        find(str(file))
    except WeightsError:
        return False
    return True


def _taken(name: str, file: Path, known: ModelCard, card: ModelCard) -> WeightsError:
    whose = "came with the installation" if is_embedded(file) else f"is in {file.parent}"
    return WeightsError(
        f"Other weights called {name} are there: sha256 {known.sha256[:12]} {whose}, the new file has {card.sha256[:12]}.",
        next_step="Ask whoever made them for another name or version"
        + ("." if is_embedded(file) else f", or delete {file} and its card first."),
        code="NAME_TAKEN",
    )


def _another(name: str, card: ModelCard, digest: str) -> WeightsError:
    return WeightsError(
        f"{name} is whole, but not the file you asked for (sha256 {card.sha256[:12]}, asked for {digest[:12]}).",
        next_step="Check the revision and the digest you were given; nothing was installed.",
        code="WRONG_DIGEST",
    )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise OutputError(
            f"The weights folder {user_folder()} cannot be written: {failure.strerror or failure}.",
            next_step="Name one that you may write to in MEDK2N_WEIGHTS_DIR.",
            code="CANNOT_WRITE",
        ) from failure
