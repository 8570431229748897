"""Which contrast a file holds, from its name and its sidecar, with the evidence said.

Unknown is allowed, wrong is not: when words contradict each other the answer is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.agent import Said, said, split

# Parts of a BIDS name that tell of the person, the visit or the space, not of the contrast.
_ENTITY = re.compile(r"(?i)(?<![a-z0-9])(sub|ses|space|from|to|run)-[a-z0-9+]+")
# Not one of our contrasts, whatever else the name says.
_OTHERS = {
    **dict.fromkeys(("t2star", "t2*", "t2starw"), "T2*"),
    **dict.fromkeys(("swan", "swp", "venbold"), "SWI"),
    **dict.fromkeys(("asl", "dsc", "dce", "pwi", "perf", "perfusion", "cbf", "cbv", "mtt", "ttp", "tmax"), "perfusion"),
    **dict.fromkeys(("mra", "tof", "angio"), "angiography"),
    **dict.fromkeys(("pd", "pdw"), "proton density"),
    **dict.fromkeys(("subtraction", "subtracted", "subtr"), "a subtraction"),
    **dict.fromkeys(("localizer", "localiser", "scout"), "a localizer"),
    **dict.fromkeys(("b0", "sbref"), "an image without diffusion weighting"),
    **dict.fromkeys(("eadc", "exp"), "an exponential ADC map"),
    **dict.fromkeys(("stir",), "STIR"),
    "bold": "fMRI",
    "fa": "an FA map",
    "phase": "a phase image",
    "fieldmap": "a field map",
    "ct": "CT",
    "pet": "PET",
}
# With "t2" beside them: gradient echoes, which show blood and iron, not what a T2 shows.
_STARRED = "star gre gre2d gre3d ffe fl2d fl3d hemo heme haemo merge medic mffe me3d qsm"
_T2_STAR = frozenset(_STARRED.split())
_LABEL_WORDS = ("lesion", "lesions", "label", "labels", "roi", "gt")
_LABEL_ENDINGS = ("mask", "seg", "segmentation", "lesionmap", "parc", "probseg")
_MAP_ENDINGS = ("map", "maps", "mapping", "biasfield")
NO_AGENT = ("", "none", "no", "n", "na", "n/a", "0", "false", "without")


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
    if by_sidecar.code == "NOT_A_CONTRAST":
        return by_sidecar
    if Modality.T2 in (by_name.modality, by_sidecar.modality) and "GR" in str(sidecar.get("ScanningSequence")).upper():
        return Recognition(
            None, f"{(by_name if by_name.modality else by_sidecar).evidence}, but a gradient echo", "CONTRADICTION"
        )
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
    words = _words(text)
    if (other := _other(words)) is not None:
        return Recognition(None, other, code="NOT_A_CONTRAST")
    if words and words[0] == "synth":
        return Recognition(None, "a synthetic image, by 'synth' in its name", code="SYNTHETIC")
    if (dark := _dark_fluid(words)) is not None:
        return dark
    found = _spelled(words)
    if not found:
        return Recognition(None, "nothing in the name says which contrast it is", code="UNKNOWN_CONTRAST")
    modality = _reconcile([m for m, _ in found], words)
    words_said = " and ".join(f"'{w}'" for _, w in found)
    if modality is None:
        return Recognition(None, f"the name says {words_said}, which may mean several contrasts", code="CONTRADICTION")
    agent = " and a contrast agent" if modality is Modality.T1C and Modality.T1C not in {m for m, _ in found} else ""
    return Recognition(modality, f"{words_said}{agent} in the name")


def says_without_agent(text: str) -> bool:
    """Whether a description denies a contrast agent: `pre`, `native`, `C-`."""
    return said(_words(text)) is Said.DENIED


def _words(text: str) -> list[str]:
    """Lower-case words; BIDS entities that tell nothing of the contrast, and the goal of `x to y`, are left out."""
    words = split(_ENTITY.sub(" ", text))
    return [w for n, w in enumerate(words) if w != "to" and (n == 0 or words[n - 1] != "to")]


def _other(words: list[str]) -> str | None:
    """What the image is instead, in words, or None."""
    quantitative = Modality.ADC in {Modality.spelled(w) for w in words}
    if (star := _T2_STAR & set(words)) and {"t2", "t2w"} & set(words):
        return f"T2*, by '{min(star)}' in its name"
    for number, word in enumerate(words):
        after = words[number + 1] if number + 1 < len(words) else ""
        if word in _LABEL_WORDS or word.endswith(_LABEL_ENDINGS):
            return f"a label map, by '{word}' in its name"
        if word.endswith(_MAP_ENDINGS) and not quantitative:
            return f"a parameter map, by '{word}' in its name"
        if word == "sub" and not after[:1].isdigit():
            return "a subtraction, by 'sub' in its name"
        if word.startswith("swi"):
            return f"SWI, by '{word}' in its name"
        if word in _OTHERS:
            return f"{_OTHERS[word]}, by '{word}' in its name"
    return None


def _dark_fluid(words: list[str]) -> Recognition | None:
    """Siemens' names of a FLAIR: TIRM or SPACE with dark fluid. A TIRM alone may null fat instead."""
    together = " ".join(words)
    for sign in ("darkfluid", "dark fluid", "da fl", "dafl"):
        if f" {sign} " in f" {together} ":
            return Recognition(Modality.FLAIR, f"'{sign}' in the name")
    if "tirm" in words and "flair" not in words:
        return Recognition(None, "'tirm' in the name may null water or fat", code="UNKNOWN_CONTRAST")
    return None


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


def _reconcile(said: list[Modality], words: list[str]) -> Modality | None:
    """`T1 FLAIR` in this order is a T1, `T2 FLAIR` a FLAIR, T1 with a word for contrast agent a T1C; a DWI's ADC is an ADC."""
    kinds = set(said)
    if Modality.FLAIR in kinds and kinds & {Modality.T1, Modality.T1C}:
        if said[-1] is not Modality.FLAIR or said[0] is Modality.FLAIR:
            return None
        kinds.discard(Modality.FLAIR)
    if kinds == {Modality.T2, Modality.FLAIR}:
        return Modality.FLAIR
    if kinds == {Modality.DWI, Modality.ADC}:
        return Modality.ADC
    if kinds and kinds <= {Modality.T1, Modality.T1C}:
        return _with_or_without_agent(Modality.T1C in kinds, words)
    return kinds.pop() if len(kinds) == 1 else None


def _with_or_without_agent(spelled: bool, words: list[str]) -> Modality | None:
    """What the words say of an agent decides; where they say nothing, the spelling (`t1ce`)."""
    match said(words):
        case Said.NOTHING:
            return Modality.T1C if spelled else Modality.T1
        case Said.AFTER:
            return Modality.T1C if spelled else None
        case Said.DENIED:
            return None if spelled else Modality.T1
        case Said.GIVEN:
            return Modality.T1C
        case Said.UNCLEAR:
            return None


def _from_sidecar(sidecar: Mapping[str, object]) -> Recognition:
    agent = str(sidecar.get("ContrastBolusIngredient") or sidecar.get("ContrastBolusAgent") or "").strip().lower()
    injected = agent not in NO_AGENT
    answers = [from_words(str(sidecar.get(key) or "")) for key in ("SeriesDescription", "ProtocolName")]
    for key, answer in zip(("SeriesDescription", "ProtocolName"), answers, strict=True):
        evidence = f"{answer.evidence} ({key} of the sidecar)" + (", with a contrast agent" if injected else "")
        if answer.code == "NOT_A_CONTRAST":
            return Recognition(None, evidence, answer.code)
        if answer.modality is not None:
            return Recognition(Modality.T1C if injected and answer.modality is Modality.T1 else answer.modality, evidence)
    if injected and _looks_t1(sidecar):
        return Recognition(Modality.T1C, "a contrast agent in the sidecar")
    return Recognition(None, "")


def _looks_t1(sidecar: Mapping[str, object]) -> bool:
    """Short echo: T1 weighted (EchoTime in seconds, as BIDS has it)."""
    echo = sidecar.get("EchoTime")
    return isinstance(echo, int | float) and 0 < echo < 0.03
