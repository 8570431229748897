"""Whether a name or a description says that a contrast agent was given: `T1 +C`, `AX T1 W/O CONTRAST`, `t1_tse nach KM`.

Unknown is allowed, wrong is not: a word that denies counts only where it denies the agent (`NON FS POST GAD` does not).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import Enum

_WORD = re.compile(r"[^A-Za-z0-9*]+")
_WITH = re.compile(r"(?i)(?<![a-z0-9])(\+\s?c|c\s?\+)(?![a-z0-9])")
_WITHOUT = re.compile(r"(?i)(?<![a-z0-9])c\s?-(?![a-z0-9])|(?:(?<=[\s(_])|^)-\s?c(?![a-z0-9])")
_GENERIC = (
    "gd gad gado gadolinium dtpa contrast contraste contrasto kontrast kontrastmittel ce km mdc enhanced inj injected injection"
)
_BRANDS = (
    "gadavist gadovist gadobutrol dotarem clariscan gadoterate magnevist multihance prohance gadoteridol omniscan vueway elucirem"
)
_AGENTS = frozenset([*_GENERIC.split(), *_BRANDS.split()])
# Those of the first line deny without naming what; the others must stand before a word for the agent, or at the end.
_PLAIN = "pre native nativ pra prae precontrast noncontrast unenhanced"
_NOT = "non no without wo ohne none sans before vor avant sin senza sem zonder o plain"
_ALONE = frozenset(_PLAIN.split())
_DENIALS = _ALONE | frozenset(_NOT.split())
_FILLERS = frozenset(("iv", "i", "v", "the", "any", "intravenous"))
_BOTH = frozenset(("w", "with", "and", "mit", "und", "et", "y", "con", "avec"))
_LATER = "op operative operativ surgery surgical surg rt radiation treatment tx chemo biopsy resection processed processing proc"
_TREATMENTS = frozenset(_LATER.split())
_GLUED = re.compile(r"(post|pre|non|no|wo)(gd|gad|gado|con|contrast|c|km|inj|enhanced)")


class Said(Enum):
    """What words say of a contrast agent.

    AFTER: a bare `post`, which may be after injection or after surgery; UNCLEAR: both given and denied.
    """

    GIVEN = "given"
    DENIED = "denied"
    AFTER = "after"
    UNCLEAR = "unclear"
    NOTHING = "nothing"


def split(text: str) -> list[str]:
    """Lower-case words without accents; `C+` becomes `gd`, `-C` `native`, `w/o` `wo`, and `post op` one word."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = _WITHOUT.sub(" native ", _WITH.sub(" gd ", ascii_text))
    words: list[str] = []
    for word in (w.lower() for w in _WORD.split(plain) if w):
        before = words[-1] if words else ""
        if (before == "w" and word == "o") or (before in ("pre", "post") and word in _TREATMENTS):
            words[-1] = before + ("o" if word == "o" else "op")
        else:
            words.append(word)
    return words


def said(words: Sequence[str]) -> Said:
    """What `split` words say of a contrast agent."""
    glued = {w: found for w in words if (found := _GLUED.fullmatch(w))}
    given = {n for n, w in enumerate(words) if w in _AGENTS or (w in glued and w.startswith("post"))}
    denied = False
    for number, word in enumerate(words):
        if word in glued and not word.startswith("post"):
            denied = True
        elif word in _DENIALS:
            about = _about(words, number, given)
            if about is None:
                continue
            if number and words[number - 1] in _BOTH:  # with and without contrast
                return Said.UNCLEAR
            denied = True
            given.discard(about)
    if denied:
        return Said.UNCLEAR if given else Said.DENIED
    if given:
        return Said.GIVEN
    return Said.AFTER if {"post", "postop"} & set(words) else Said.NOTHING


def _about(words: Sequence[str], number: int, given: set[int]) -> int | None:
    """Which word the denial at `number` speaks of: an agent's, itself, or None where it is about something else."""
    after = number + 1
    while after < len(words) and words[after] in _FILLERS:
        after += 1
    if after in given:
        return after
    if words[number] == "none" and number - 1 in given:  # ce-none
        return number - 1
    alone = words[number] in _ALONE or (after == len(words) and words[number] != "o")
    return number if alone else None
