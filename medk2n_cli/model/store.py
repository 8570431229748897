"""Where weights are found, and whether they are what their card says."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import WeightsError
from medk2n_cli.digest import sha256_of
from medk2n_cli.model.card import ModelCard, read_card

DEFAULT = "medk2n-small"
_PACKAGE = Path(__file__).resolve().parents[1]
# In an installed wheel the weights lie inside the package, in a checkout beside it.
FOLDERS = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")


@dataclass(frozen=True, eq=False)
class Weights:
    """A verified pair: the ONNX file and its card."""

    file: Path
    card: ModelCard


def user_folder() -> Path:
    """Where pulled and imported weights live, as NAME@VERSION.onnx with their cards."""
    # The one place outside cli that reads the environment: `--weights NAME` and the Python call must find the same file.
    if named := os.environ.get("MEDK2N_WEIGHTS_DIR"):
        return Path(named)
    home = os.path.expanduser("~")  # unlike Path.home(), no error for a user without one, say in a container
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home, "medk2n", "weights")
    return Path(os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share"), "medk2n", "weights")


def installed() -> dict[str, Path]:
    """Weights files by name. Those that came with the installation come first, so that nothing can take their names."""
    found: dict[str, Path] = {}
    for folder in (*FOLDERS, user_folder()):
        for file in sorted(folder.glob("*.onnx"), key=lambda f: f.stem):
            found.setdefault(file.stem, file)
    return found


def is_embedded(file: Path) -> bool:
    """Did this file come with the installation?"""
    return file.parent in FOLDERS


def names() -> list[str]:
    """Names that `find` knows: of the weights that came with the installation, and of pulled and imported ones."""
    return sorted(installed())


def find(which: str | None = None) -> Weights:
    """Weights by name, NAME@VERSION or path of the ONNX file; the embedded ones without any. Nothing is ever downloaded.

    Raises:
        WeightsError: not found, no or bad card, or the file is not the one its card describes.
    """
    file = _locate(which or DEFAULT)
    card = read_card(file)
    digest = sha256_of(file)
    if digest != card.sha256:
        raise WeightsError(
            f"{file.name} is damaged or not the file its card describes (sha256 {digest[:12]}, card says {card.sha256[:12]}).",
            next_step="Get the pair again: medk2n weights pull or import; the embedded weights come back with: "
            "pip install --force-reinstall . in the checkout",
            code="WEIGHTS_DAMAGED",
        )
    return Weights(file, card)


def _locate(which: str) -> Path:
    path = Path(which)
    if path.suffix == ".onnx" or len(path.parts) > 1:  # a file of the same name in this folder must not stand in for a name
        if path.is_file():
            return path
        raise WeightsError(f"There is no weights file {which}.", next_step=_choose(), code="WEIGHTS_NOT_FOUND")
    if exact := installed().get(which):
        return exact
    alike = _alike(which)
    if len(alike) > 1:
        known = ", ".join(sorted(f.stem for f in alike))
        raise WeightsError(
            f"There are {len(alike)} versions of '{which}'.", next_step=f"Say which: {known}.", code="WEIGHTS_AMBIGUOUS"
        )
    if alike:
        return alike[0]
    raise WeightsError(f"There are no weights named '{which}'.", next_step=_choose(), code="WEIGHTS_NOT_FOUND")


def _alike(which: str) -> list[Path]:
    """Every version of a name without one; and for NAME@VERSION the embedded file, where its card says that version."""
    name, _, version = which.partition("@")
    if not version:
        return [file for stem, file in installed().items() if stem.partition("@")[0] == name]
    return [f for stem, f in installed().items() if stem == name and is_embedded(f) and read_card(f).version == version]


def _choose() -> str:
    known = names()
    return (
        f"Use --weights with one of: {', '.join(known)}; or a path to an .onnx file."
        if known
        else ("Reinstall medk2n: its embedded weights are missing.")
    )
