"""Which contrast a file holds, from its name and its sidecar, with the evidence said.

Unknown is allowed, wrong is not: when words contradict each other the answer is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from medk2n_cli.core.modality import Modality

_WORD = re.compile(r"[^A-Za-z0-9*]+")
# Not one of our contrasts, whatever else the name says.
_OTHERS = {
    "t2star": "T2*",
    "t2*": "T2*",
    "t2starw": "T2*",
    "swi": "SWI",
    "swan": "SWI",
    "bold": "fMRI",
    "asl": "perfusion",
    "dsc": "perfusion",
    "dce": "perfusion",
    "pwi": "perfusion",
    "perf": "perfusion",
    "cbf": "perfusion",
    "cbv": "perfusion",
    "mra": "angiography",
    "tof": "angiography",
    "angio": "angiography",
    "fa": "an FA map",
    "pd": "proton density",
    "pdw": "proton density",
    "subtraction": "a subtraction",
    "localizer": "a localizer",
    "scout": "a localizer",
    "phase": "a phase image",
    "fieldmap": "a field map",
    "ct": "CT",
    "pet": "PET",
}
_LABELS = ("seg", "mask", "lesion", "lesions", "label", "labels", "brainmask", "dseg", "probseg", "roi")
_CONTRAST_WORDS = ("gd", "gad", "gado", "gadolinium", "post", "postcontrast", "contrast", "ce", "km", "enhanced", "c+")


@dataclass(frozen=True)
class Recognition:
    """A modality and the evidence for it, or None and why not."""

    modality: Modality | None
    evidence: str
    code: str = ""


def recognise(name: str, sidecar: Mapping[str, object] | None = None) -> Recognition:
    """What the file name (without extension) and a BIDS-like JSON sidecar say.

    The two must agree where both speak; a name that says T1 with a sidecar that names a contrast agent is a T1C.
    """
    by_name = from_words(name)
    if by_name.code == "NOT_A_CONTRAST" or not sidecar:
        return by_name
    by_sidecar = _from_sidecar(sidecar)
    if by_sidecar.modality is None:
        return by_name
    pair = {by_name.modality, by_sidecar.modality}
    if by_name.modality in (None, by_sidecar.modality):
        return by_sidecar
    if pair == {Modality.T1, Modality.T1C}:
        return Recognition(Modality.T1C, f"{by_name.evidence}; {by_sidecar.evidence}")
    return Recognition(None, f"{by_name.evidence}, but {by_sidecar.evidence}", code="CONTRADICTION")


def from_words(text: str) -> Recognition:
    """Modality from a file name or a series description."""
    words = [w.lower() for w in _WORD.split(text) if w]
    for word in words:
        if word in _LABELS:
            return Recognition(None, f"a label map, by '{word}' in its name", code="NOT_A_CONTRAST")
        if word in _OTHERS:
            return Recognition(None, f"{_OTHERS[word]}, by '{word}' in its name", code="NOT_A_CONTRAST")
    if words and words[0] == "synth":
        return Recognition(None, "a synthetic image, by 'synth' in its name", code="SYNTHETIC")
    found = _spelled(words)
    if not found:
        return Recognition(None, "nothing in the name says which contrast it is", code="UNKNOWN_CONTRAST")
    modality = _reconcile({m for m, _ in found}, words)
    said = " and ".join(f"'{w}'" for _, w in found)
    if modality is None:
        return Recognition(None, f"the name says {said}, which contradict each other", code="CONTRADICTION")
    return Recognition(modality, f"{said} in the name")


def _spelled(words: list[str]) -> list[tuple[Modality, str]]:
    """(modality, word as written) of every spelling, single words and pairs such as `t1 ce`; BIDS `acq-` labels too."""
    found: list[tuple[Modality, str]] = []
    skip = False
    for number, word in enumerate(words):
        if skip:
            skip = False
            continue
        after = words[number + 1] if number + 1 < len(words) else ""
        pair = Modality.spelled(word + after) if after else None
        if pair is not None and Modality.spelled(word) is not None:
            found.append((pair, f"{word} {after}"))
            skip = True
        elif (single := Modality.spelled(word)) is not None and word not in ("fl", "trace"):
            found.append((single, word))
    return found


def _reconcile(said: set[Modality], words: list[str]) -> Modality | None:
    """T1 FLAIR is a T1, T2 FLAIR a FLAIR, T1 with a word for contrast agent a T1C; a DWI's ADC is an ADC."""
    if Modality.T1 in said and said <= {Modality.T1, Modality.FLAIR, Modality.T1C}:
        said = {Modality.T1C if Modality.T1C in said or set(words) & set(_CONTRAST_WORDS) else Modality.T1}
    elif said == {Modality.T1C, Modality.FLAIR}:
        said = {Modality.T1C}
    elif said == {Modality.T2, Modality.FLAIR}:
        said = {Modality.FLAIR}
    elif said == {Modality.DWI, Modality.ADC}:
        said = {Modality.ADC}
    return said.pop() if len(said) == 1 else None


def _from_sidecar(sidecar: Mapping[str, object]) -> Recognition:
    agent = str(sidecar.get("ContrastBolusIngredient") or sidecar.get("ContrastBolusAgent") or "").strip()
    for key in ("SeriesDescription", "ProtocolName"):
        answer = from_words(str(sidecar.get(key) or ""))
        if answer.modality is not None:
            modality = Modality.T1C if agent and answer.modality is Modality.T1 else answer.modality
            return Recognition(
                modality,
                f"{answer.evidence.replace('the name', key)} of the sidecar" + (" with a contrast agent" if agent else ""),
            )
    if agent:
        return Recognition(Modality.T1C, "a contrast agent in the sidecar") if _looks_t1(sidecar) else Recognition(None, "")
    return Recognition(None, "")


def _looks_t1(sidecar: Mapping[str, object]) -> bool:
    """Short echo: T1 weighted (EchoTime in seconds, as BIDS has it)."""
    echo = sidecar.get("EchoTime")
    return isinstance(echo, int | float) and 0 < echo < 0.03
