"""The vocabulary: which contrasts exist, in slot order, and how people spell them."""

from __future__ import annotations

from enum import Enum

from medk2n_cli.core.errors import RequestError


class Modality(Enum):
    """One MR contrast. The order of the members is the order of the slots of our weights."""

    T1 = "T1"
    T1C = "T1C"
    T2 = "T2"
    FLAIR = "FLAIR"
    DWI = "DWI"
    ADC = "ADC"

    @property
    def is_quantitative(self) -> bool:
        """ADC carries a physical unit; every other contrast has an arbitrary scale."""
        return self is Modality.ADC

    @property
    def units(self) -> str:
        """Unit of the volumes we write for this contrast."""
        return "1e-6 mm2/s" if self.is_quantitative else "arbitrary (normal tissue near 500)"

    @classmethod
    def parse(cls, text: str) -> Modality:
        """The modality a person means by `text`, whatever the case.

        Raises:
            RequestError: `text` is no spelling we know; the message names the known ones.
        """
        found = _BY_SPELLING.get(_plain(text))
        if found is None:
            known = ", ".join(m.value for m in cls)
            raise RequestError(
                f"'{text}' is not a modality medk2n knows.",
                next_step=f"Use one of: {known}.",
                code="UNKNOWN_MODALITY",
            )
        return found

    @classmethod
    def spelled(cls, token: str) -> Modality | None:
        """Like `parse`, but None where `token` is no known spelling."""
        return _BY_SPELLING.get(_plain(token))


def _plain(text: str) -> str:
    return text.strip().lower().replace("-", "").replace("_", "").replace(" ", "")


# What BIDS, BraTS, ISLES, dcm2niix users and radiologists write. No spelling may stand for two modalities.
SPELLINGS: dict[Modality, tuple[str, ...]] = {
    Modality.T1: ("t1", "t1w", "t1n", "t1native", "t1pre", "t1weighted", "mprage", "t1mprage", "bravo", "spgr"),
    Modality.T1C: (
        "t1c",
        "t1ce",
        "t1gd",
        "t1post",
        "t1wce",
        "cet1",
        "cet1w",
        "t1cw",
        "t1wc",
        "t1km",
        "t1wks",
        "t1contrast",
        "t1postcontrast",
        "ce-t1",
    ),
    Modality.T2: ("t2", "t2w", "t2weighted", "t2tse", "t2fse"),
    Modality.FLAIR: ("flair", "t2f", "t2flair", "flairw", "fl"),
    Modality.DWI: ("dwi", "trace", "tracew", "dwib1000", "b1000"),
    Modality.ADC: ("adc", "adcmap"),
}

_BY_SPELLING: dict[str, Modality] = {_plain(s): m for m, spellings in SPELLINGS.items() for s in spellings}
