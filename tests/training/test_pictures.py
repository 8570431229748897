from __future__ import annotations

import struct
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")
pytest.importorskip("matplotlib", reason="the training room needs the train extra")

from medk2n_cli.training.network import MedK2N, Size  # noqa: E402
from medk2n_cli.training.pictures import draw_cases, draw_trust  # noqa: E402
from medk2n_cli.training.text import text_vectors  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)


def size(file: Path) -> tuple[int, int]:
    return struct.unpack(">II", file.read_bytes()[16:24])  # type: ignore[return-value]


def test_examples_and_failures_are_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = draw_cases(MedK2N(TINY, text_vectors()).eval(), formula_head(), tmp_path / "examples.png")
    assert min(size(made)) > 500
    assert made.stat().st_size < 2**20


def test_trust_is_drawn_for_every_study_that_has_it(tmp_path: Path) -> None:
    told = {"quality_calibration": [[0.5, 0.4, 9], [0.7, 0.6, 9]], "expected_error_reliability": [[0.1, 0.2], [0.2, 0.3]]}
    assert min(size(draw_trust({"a": told, "gate test": {}}, tmp_path / "trust.png"))) > 200
