"""A hospital's own words for its series: patterns on DICOM tags (and on file names) that settle what a series is."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from medk2n_cli.core.errors import Medk2nError, RequestError
from medk2n_cli.core.modality import Modality

SCHEMA = "medk2n.rules/1"
FILE = "File"  # the one key that is no DICOM keyword: the label of a file, as scan prints it
_UNUSED = ("none", "unused", "ignore")


@dataclass(frozen=True)
class Rule:
    """Where every pattern fits, a series is this modality, or none of ours.

    Attributes:
        modality: None where such a series is not to be used.
        when: DICOM keyword (or File) -> glob, case ignored; several values of a tag are joined by a backslash.
        name: how the evidence cites it.
    """

    modality: Modality | None
    when: Mapping[str, str]
    name: str

    def fits(self, value: Callable[[str], str]) -> bool:
        """`value`: keyword -> text of the tag, empty where absent."""
        return all(fnmatch.fnmatchcase(value(key).lower(), pattern.lower()) for key, pattern in self.when.items())


@dataclass(frozen=True)
class Rules:
    """In order; the first that fits decides."""

    rules: tuple[Rule, ...] = ()

    @property
    def keywords(self) -> frozenset[str]:
        """The DICOM attributes that the patterns look at."""
        return frozenset(k for r in self.rules for k in r.when if k != FILE)

    def first(self, value: Callable[[str], str]) -> Rule | None:
        """The first that fits, if any."""
        return next((r for r in self.rules if r.fits(value)), None)


def read_rules(file: Path) -> Rules:
    """``{"schema": "medk2n.rules/1", "rules": [{"modality": "T1", "when": {"SeriesDescription": "*mprage*"}}]}``.

    Raises:
        RequestError: BAD_RULES, naming the rule and what is wrong with it.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or stored.get("schema") != SCHEMA or not isinstance(stored.get("rules"), list):
            raise ValueError(f'it is no {{"schema": "{SCHEMA}", "rules": [...]}}')
        return Rules(tuple(_rule(entry, number) for number, entry in enumerate(stored["rules"], start=1)))
    except (OSError, ValueError, Medk2nError) as failure:
        raise RequestError(
            f"The rules in {file} cannot be used: {failure}.",
            next_step='Write each as {"modality": "T1", "when": {"SeriesDescription": "*mprage*"}}; "none" leaves series out.',
            code="BAD_RULES",
        ) from failure


def _rule(entry: object, number: int) -> Rule:
    if not isinstance(entry, dict) or set(entry) - {"modality", "when", "name"} or not entry.get("when"):
        raise ValueError(f"rule {number} is not made of modality, when and (optional) name")
    when = entry["when"]
    if not isinstance(when, dict) or not all(isinstance(v, str) for v in when.values()):
        raise ValueError(f"rule {number}: when is not a table of texts")
    for key in when:
        if key != FILE and tag_for_keyword(key) is None:
            raise ValueError(f"rule {number}: {key} is neither a DICOM keyword nor {FILE}")
    said = str(entry.get("modality") or "none")
    modality = None if said.lower() in _UNUSED else Modality.parse(said)
    return Rule(modality, when, str(entry.get("name") or f"rule {number}"))
