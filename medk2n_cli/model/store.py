"""Where weights are found, and whether they are what their card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import WeightsError
from medk2n_cli.model.card import ModelCard, read_card, sha256_of

DEFAULT = "medk2n-small"
_PACKAGE = Path(__file__).resolve().parents[1]
# In an installed wheel the weights lie inside the package, in a checkout beside it.
FOLDERS = (_PACKAGE / "_weights", _PACKAGE.parent / "weights")


@dataclass(frozen=True, eq=False)
class Weights:
    """A verified pair: the ONNX file and its card."""

    file: Path
    card: ModelCard


def names() -> list[str]:
    """Names of the weights that came with the installation."""
    return sorted({f.stem for folder in FOLDERS for f in folder.glob("*.onnx")})


def find(which: str | None = None) -> Weights:
    """Weights by name, or by path of the ONNX file; the embedded ones without either.

    Raises:
        WeightsError: not found, no or bad card, or the file is not the one its card describes.
    """
    file = _locate(which or DEFAULT)
    card = read_card(file)
    digest = sha256_of(file)
    if digest != card.sha256:
        raise WeightsError(
            f"{file.name} is damaged or not the file its card describes (sha256 {digest[:12]}, card says {card.sha256[:12]}).",
            next_step="Get the pair again; the embedded weights come back with: pip install --force-reinstall . in the checkout",
            code="WEIGHTS_DAMAGED",
        )
    return Weights(file, card)


def _locate(which: str) -> Path:
    path = Path(which)
    if path.suffix == ".onnx" or path.is_file():
        if path.is_file():
            return path
        raise WeightsError(f"There is no weights file {which}.", next_step=_choose(), code="WEIGHTS_NOT_FOUND")
    for folder in FOLDERS:
        if (folder / f"{which}.onnx").is_file():
            return folder / f"{which}.onnx"
    raise WeightsError(f"There are no weights named '{which}'.", next_step=_choose(), code="WEIGHTS_NOT_FOUND")


def _choose() -> str:
    known = names()
    return (
        f"Use --weights with one of: {', '.join(known)}; or a path to an .onnx file."
        if known
        else ("Reinstall medk2n: its embedded weights are missing.")
    )
