"""Which contrast a DICOM series holds: what the physics says, what the words say, and when they must agree.

Unknown is allowed, wrong is not. Times in ms, b in s/mm2 (PS3.3 C.8.3.1, C.8.13.5).
"""

from __future__ import annotations

from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.agent import Said, said, split
from medk2n_cli.reading.dicom_headers import Slice
from medk2n_cli.reading.recognise import NO_AGENT, Recognition, from_words, says_without_agent

T1, T1C, T2, FLAIR, DWI, ADC = Modality
# Values of ImageType (and of FrameType) that make an image none of our contrasts, whatever it is called.
_OTHER_TYPES = {
    "LOCALIZER": "a localizer",
    "MOSAIC": "a mosaic: many slices in one image",
    "PROJECTION IMAGE": "a projection",
    "MIP": "a projection",
    "MINIP": "a projection",
    "SUBTRACTION": "a subtraction",
    "SUBTRACTED": "a subtraction",
    "FA": "an FA map",
    "TENSOR": "a tensor map",
    "PERFUSION": "perfusion",
    "P": "a phase image",
    "PHASE": "a phase image",
    "PHASE MAP": "a phase image",
    "R": "a real part",
    "REAL": "a real part",
    "I": "an imaginary part",
    "IMAGINARY": "an imaginary part",
    "VELOCITY": "a velocity map",
    "T1 MAP": "a T1 map",
    "T2 MAP": "a T2 map",
    "T2_STAR MAP": "a T2* map",
    "SCREEN SAVE": "a screenshot",
    "SCREENSHOT": "a screenshot",
}
B_WEIGHTED = 500.0
_NO_AGENT = (*NO_AGENT, "ohne")


def recognise_slices(one: Slice) -> Recognition:
    """One slice stands for its volume.

    Returns:
        modality and evidence; or None with NOT_A_CONTRAST, UNKNOWN_CONTRAST, CONTRADICTION or SYNTHETIC.
    """
    if (other := _other(one)) is not None:
        return other
    physics, why = _physics(one)
    words = _words(one)
    if words.code in ("NOT_A_CONTRAST", "SYNTHETIC"):
        return words
    if physics in (ADC, DWI):  # a scanner that says so in ImageType or by b knows
        return Recognition(physics, why)
    if words.modality in (T2, FLAIR) and _is_gradient_echo(one):
        return Recognition(None, f"{words.evidence}, but a gradient echo gives T2* at most", "CONTRADICTION")
    if words.modality is T2 and _is_inverted(one):
        return Recognition(None, f"{words.evidence}, but an inversion pulse nulls water or fat", "CONTRADICTION")
    return _agent(one, _agreed(words, physics, why, said(split(_description(one)))))


def _agreed(words: Recognition, physics: Modality | None, why: str, agent: Said) -> Recognition:
    if words.modality is None:
        if words.code == "CONTRADICTION":
            return words
        if physics is T1 and agent in (Said.AFTER, Said.UNCLEAR):
            return Recognition(None, f"{why} make it a T1, with or without contrast agent", "UNKNOWN_CONTRAST")
        if physics is T1 and agent is Said.GIVEN:
            return Recognition(T1C, f"{why} make it a T1; its description says a contrast agent was given")
        if physics is not None:
            return Recognition(physics, why)
        return Recognition(None, "neither its description nor its timing says which contrast it is", "UNKNOWN_CONTRAST")
    if physics is None:
        return words
    plain = T1 if words.modality is T1C else words.modality
    if plain is not physics:
        return Recognition(None, f"{words.evidence}, but {why} make it a {physics.value}", "CONTRADICTION")
    return Recognition(words.modality, f"{words.evidence}; {why}")


def _agent(one: Slice, said: Recognition) -> Recognition:
    """A T1 with a contrast agent in its tags is a T1C, unless its description denies it."""
    agent = one.text("ContrastBolusAgent").lower()
    injected = agent not in _NO_AGENT or bool(one.value("ContrastBolusAgentSequence"))
    if said.modality is not T1 or not injected:
        return said
    if says_without_agent(_description(one)):
        return Recognition(None, f"{said.evidence}, but its tags name a contrast agent", "CONTRADICTION")
    return Recognition(T1C, f"{said.evidence}; a contrast agent in its tags")


def _description(one: Slice) -> str:
    return one.text("SeriesDescription") or one.text("ProtocolName")


def _words(one: Slice) -> Recognition:
    """The description decides; the protocol's name speaks where the description is silent."""
    answer = Recognition(None, "", "UNKNOWN_CONTRAST")
    for name in ("SeriesDescription", "ProtocolName"):
        if text := one.text(name):
            answer = from_words(text)
            if answer.modality is not None or answer.code != "UNKNOWN_CONTRAST":
                return Recognition(answer.modality, answer.evidence.replace("the name", f"its {name}"), answer.code)
    return answer


def _other(one: Slice) -> Recognition | None:
    """Synthetic images, colour, maps and projections: none of ours."""
    if one.text("SyntheticData").upper() == "YES":
        return Recognition(None, "a synthetic image, by its SyntheticData tag", "SYNTHETIC")
    if (one.number("SamplesPerPixel") or 1) > 1:
        return Recognition(None, "a colour image", "NOT_A_CONTRAST")
    for value in _types(one):
        if value in _OTHER_TYPES:
            return Recognition(None, f"{_OTHER_TYPES[value]}, by '{value}' in its ImageType", "NOT_A_CONTRAST")
    b = _b_value(one)
    if b is not None and b < B_WEIGHTED and _is_diffusion(one) and "ADC" not in _types(one):
        return Recognition(None, f"a diffusion series with b {b:g}", "NOT_A_CONTRAST")
    return None


def _types(one: Slice) -> list[str]:
    both = f"{one.text('ImageType')}\\{one.text('FrameType')}\\{one.text('AcquisitionContrast')}"
    return [part.strip().upper() for part in both.split("\\") if part.strip()]


def _b_value(one: Slice) -> float | None:
    return one.number("DiffusionBValue")


def _is_diffusion(one: Slice) -> bool:
    return bool({"DIFFUSION", "TRACEW", "ADC"} & set(_types(one))) or one.text("ScanningSequence").startswith("EP")


def _physics(one: Slice) -> tuple[Modality | None, str]:
    """The modality that the timing allows, and the timing in words; None where it fits none or several."""
    types, b = _types(one), _b_value(one)
    if "ADC" in types:
        return ADC, "'ADC' in its ImageType"
    if "TRACEW" in types or (b is not None and b >= B_WEIGHTED):
        return DWI, f"b {b:g}" if b is not None else "'TRACEW' in its ImageType"
    if "FLUID_ATTENUATED" in types:
        return FLAIR, "'FLUID_ATTENUATED' in its AcquisitionContrast"
    tr, te, ti = (one.number(n) for n in ("RepetitionTime", "EchoTime", "InversionTime"))
    te, ti = one.number("EffectiveEchoTime") or te, ti or one.number("InversionTimes")  # enhanced objects have these
    timing = ", ".join(f"{n} {v:g} ms" for n, v in (("TR", tr), ("TE", te), ("TI", ti)) if v)
    echo = _echo(one)
    if not tr or not te or echo is None or (_is_inverted(one) and not ti):
        return None, timing
    return _by_timing(echo == "gradient", tr, te, ti or 0.0), timing


def _echo(one: Slice) -> str | None:
    """spin or gradient; None for echo planar and where the header does not say (classic or enhanced attributes)."""
    classic, enhanced = one.text("ScanningSequence").upper().split("\\"), one.text("EchoPulseSequence").upper()
    if "EP" in classic or one.text("EchoPlanarPulseSequence").upper() == "YES":
        return None
    if "SE" in classic or enhanced == "SPIN" or classic == ["IR"]:  # Philips writes IR alone
        return "spin"
    return "gradient" if "GR" in classic or enhanced == "GRADIENT" else None


def _is_gradient_echo(one: Slice) -> bool:
    """Echo planar ones too."""
    return "GR" in one.text("ScanningSequence").upper().split("\\") or one.text("EchoPulseSequence").upper() == "GRADIENT"


def _is_inverted(one: Slice) -> bool:
    """Whether an inversion pulse goes before it, classic or enhanced."""
    return "IR" in one.text("ScanningSequence").upper().split("\\") or one.text("InversionRecovery").upper() == "YES"


def _by_timing(gradient_echo: bool, tr: float, te: float, ti: float) -> Modality | None:
    if ti:
        if ti >= 1400 and tr >= 4000 and te >= 60:
            return FLAIR
        return T1 if 500 <= ti <= 1300 and te < 40 and tr < 3500 else None
    if gradient_echo:
        return None  # T1, time of flight, T2*: too near to each other to tell by timing
    if te < 35 and tr < 1300:
        return T1
    return T2 if te >= 65 and tr >= 1800 else None
