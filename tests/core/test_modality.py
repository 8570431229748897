from __future__ import annotations

import pytest

from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.modality import SPELLINGS, Modality


@pytest.mark.parametrize(
    ("spelling", "modality"),
    [
        ("t1ce", "T1C"),
        ("T1w", "T1"),
        ("t2f", "FLAIR"),
        ("T2-FLAIR", "FLAIR"),
        ("t1n", "T1"),
        ("dwi", "DWI"),
        ("ADC", "ADC"),
        (" t2w ", "T2"),
    ],
)
def test_people_may_spell_it_their_way(spelling: str, modality: str) -> None:
    assert Modality.parse(spelling).value == modality


def test_an_unknown_modality_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="'PET'") as failure:
        Modality.parse("PET")
    assert "FLAIR" in failure.value.next_step


def test_no_spelling_stands_for_two_modalities() -> None:
    everything = [s for spellings in SPELLINGS.values() for s in spellings]
    assert len(everything) == len(set(everything))
