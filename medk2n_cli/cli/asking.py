"""Words of the command line -> nouns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.footprint import parse_bytes
from medk2n_cli.core.modality import Modality
from medk2n_cli.pipeline import Alignment, Request
from medk2n_cli.reading.rules import Rules, read_rules


@dataclass(frozen=True)
class Places:
    """Where to look: folders, files or zip archives, the UID of one study among several, and a file of rules."""

    where: tuple[Path, ...]
    study: str | None = None
    rules: Path | None = None

    def read_rules(self) -> Rules:
        """The site's rules, if any.

        Raises:
            RequestError: BAD_RULES.
        """
        return read_rules(self.rules) if self.rules else Rules()


def parse_request(places: Places, want: str, use: Sequence[str], ignore: str, placing: tuple[str, bool]) -> Request:
    """`placing`: output grid, and whether to register.

    Raises:
        RequestError: a word is no modality.
    """
    grid, register = placing
    if grid not in ("auto", "iso"):
        Modality.parse(grid)
    return Request(
        where=places.where,
        want=None if want.strip().lower() == "missing" else modalities(want),
        use=parse_use(use),
        ignore=frozenset(modalities(ignore)) if ignore else frozenset(),
        alignment=Alignment(grid, register),
        study=places.study,
        rules=places.read_rules(),
        shown=places.where[0],
    )


def parse_memory(text: str) -> int:
    """``3G`` -> bytes.

    Raises:
        RequestError: BAD_MEMORY.
    """
    try:
        return parse_bytes(text)
    except ValueError as failure:
        raise RequestError(
            f"--max-memory {text} is no amount of memory.", next_step="Write --max-memory 3G or 800M.", code="BAD_MEMORY"
        ) from failure


def modalities(words: str) -> tuple[Modality, ...]:
    """``T2,FLAIR`` -> modalities, each once.

    Raises:
        RequestError: a word is no modality, or there is none.
    """
    found = tuple(dict.fromkeys(Modality.parse(w) for w in words.split(",") if w.strip()))
    if not found:
        raise RequestError("No modality was named.", next_step="Name some, e.g. --want T2,FLAIR.", code="NOTHING_WANTED")
    return found


def parse_use(pairs: Sequence[str]) -> dict[Modality, str]:
    """``T1=FILE`` each.

    Raises:
        RequestError: a pair without "=", an unknown modality, or one given twice.
    """
    found: dict[Modality, str] = {}
    for pair in pairs:
        name, sign, file = pair.partition("=")
        if not sign or not file:
            raise RequestError(f"--use {pair} is not of the form T1=FILE.", next_step="Write --use T1=FILE.", code="BAD_USE")
        modality = Modality.parse(name)
        if modality in found:
            raise RequestError(f"--use names {modality.value} twice.", next_step="Give it once.", code="BAD_USE")
        found[modality] = file
    return found
