from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medk2n_cli.reading.agent import Said, said, split


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("AX SE +C", Said.GIVEN),
        ("C+ COR", Said.GIVEN),
        ("COR (-C)", Said.DENIED),
        ("W/O GAD", Said.DENIED),
        ("plain", Said.DENIED),
        ("pre GD post GD", Said.UNCLEAR),
        ("W WO CONTRAST", Said.UNCLEAR),
        ("POST", Said.AFTER),
        ("POST OP", Said.AFTER),
        ("PRE OP", Said.NOTHING),
        ("NON FS", Said.NOTHING),
        ("non fs gad", Said.GIVEN),
        ("AX SE 5 mm", Said.NOTHING),
    ],
)
def test_a_denial_counts_where_it_denies_the_agent(text: str, answer: Said) -> None:
    assert said(split(text)) is answer


@given(st.text(max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    words = split(text)
    assert said(words) in Said
    assert all(word.isascii() for word in words)
