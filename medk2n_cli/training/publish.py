"""Weights -> a folder that can be uploaded to the Hub as it is: the pair, and its card for people as README.md."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCardData

from medk2n_cli.core.errors import OutputError
from medk2n_cli.model.archive import README, readme_of, stored_name
from medk2n_cli.model.card import ModelCard, card_file
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import find

TAGS = ["onnx", "medical", "mri", "brain", "image-synthesis", "med-k2n"]
_PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.-]+\.png)\)")
# What an earlier `publish` put around the text, so that a published folder can be published again.
_OURS = re.compile(r"\A---\n.*?\n---\n+|\n## Use\n\n```\nmedk2n weights pull .*?```\n", re.S)


@dataclass(frozen=True)
class Published:
    """A folder ready for the Hub, and the commands that upload it and fetch it again."""

    folder: Path
    files: tuple[str, ...]
    upload: str
    pull: str


def publish(weights_file: Path, folder: Path, repo: str = "") -> Published:
    """Verify the pair and lay it out as a repository. Nothing is uploaded.

    Raises:
        WeightsError: the pair is damaged, or not a graph of its card's contract.
        OutputError: the folder is not empty.
    """
    weights = find(str(weights_file))
    open_session(weights, choose_device("cpu", 1))
    stored_name(weights.card)  # a name that `medk2n weights pull` would refuse is no name to publish
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not empty.", next_step="Give a new folder with --out.", code="OUT_NOT_EMPTY")
    repo = repo or f"OWNER/{weights.card.name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".medk2n-part-") as parts:
        part = Path(parts) / "repository"
        part.mkdir()
        name = weights.card.name
        shutil.copyfile(weights.file, part / f"{name}.onnx")
        shutil.copyfile(card_file(weights.file), part / f"{name}.json")
        _write_readme(weights.file, weights.card, repo, part)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    return Published(
        folder,
        tuple(sorted(f.name for f in folder.iterdir())),
        upload=f"hf upload {repo} {folder} . --repo-type model",
        pull=_pull(repo, weights.card),
    )


def _write_readme(weights_file: Path, card: ModelCard, repo: str, folder: Path) -> None:
    """The text beside the weights, or one made from the card; with the pictures that it shows."""
    beside = readme_of(weights_file)
    text = _OURS.sub("", beside.read_text(encoding="utf-8")) if beside else _text(card)
    for picture in sorted(set(_PICTURE.findall(text))):
        if (weights_file.parent / picture).is_file():
            shutil.copyfile(weights_file.parent / picture, folder / picture)
    pages = (f"---\n{_metadata(card)}\n---\n", text.rstrip() + "\n", _use(repo, card))
    (folder / README).write_text("\n".join(pages), encoding="utf-8")


def _metadata(card: ModelCard) -> str:
    """What the Hub reads of a README, https://huggingface.co/docs/hub/model-cards."""
    return ModelCardData(
        language="en",
        license=card.licence.lower(),  # SPDX as the Hub spells it
        library_name="medk2n",
        pipeline_tag="image-to-image",
        tags=TAGS,
    ).to_yaml()


def _text(card: ModelCard) -> str:
    limits = "\n".join(f"- {limit}" for limit in card.limits)
    return (
        f"# Model card: {card.name}\n\nWeights of Med-K2N (arXiv 2510.02815) for `medk2n`, version {card.version}: any of "
        f"{', '.join(card.slots)} in, any others out. Licence: {card.licence}.\n\n"
        f"**Intended use:** {card.intended_use}\n\n## Known limits\n\n{limits}\n"
    )


def _use(repo: str, card: ModelCard) -> str:
    return f"## Use\n\n```\n{_pull(repo, card)}\nmedk2n synthesize --in study/ --weights {stored_name(card)} --out result/\n```\n"


def _pull(repo: str, card: ModelCard) -> str:
    return f"medk2n weights pull {repo}@main --sha256 {card.sha256}"
