from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medk2n_cli.training.card_text import END, START, measured, replaced

WEIGHTS = Path(__file__).parents[2] / "weights"
VARIANTS = sorted(f.stem for f in WEIGHTS.glob("*-int8.json"))


def card(name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    return stored


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_made_of_the_weights_beside_it_and_the_model_card_tells_its_loss(name: str) -> None:
    told = card(name)["metrics"]["eight bits"]
    assert told["of_sha256"] == card(told["of"])["sha256"], "make it again: python -m medk2n_cli.training quantise"
    readme = " ".join((WEIGHTS / "README.md").read_text(encoding="utf-8").split())
    mean = round(told["db_lost_mean"], 2) + 0.0  # a loss of -0.001 reads 0.00, not -0.00
    assert f"lost {mean:.2f} dB on the mean and {told['db_lost_most']:.2f} dB at most" in readme


@pytest.mark.parametrize("name", sorted({f.stem for f in WEIGHTS.glob("*.json")} - set(VARIANTS)))
def test_the_model_card_says_what_the_weights_card_says(name: str) -> None:
    metrics = card(name)["metrics"]
    readme = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert readme == replaced(readme, metrics), "make it again: python -m medk2n_cli.training card"


def test_a_table_has_a_row_per_case() -> None:
    told = {
        "cases": {"clean": 3, "noise": 3},
        "open": {"clean": 1.0, "noise": 0.0},
        "within_0.1_dB": {"clean": 1.0, "noise": 1.0},
        "mean_dB_lost": {"clean": -0.5, "noise": 0.0},
        "useful_clean_open": 1.0,
        "useful_clean": 2,
        "pairs_never_changing": [],
        "gain_spearman": 0.61,
    }
    text = measured({"gate test": told})
    assert "| clean | 3 | 100% | 100% | -0.50 |" in text
    assert "Spearman 0.610." in text
    twin = measured({"(c)": {"gated": False, **told}})
    assert "(c):" in twin
    assert "Spearman" not in twin, "a network without gates predicts no gains"
    told |= {"gain_spearman_clean": 0.7, "measured_gain": {"clean": 0.019, "noise": -0.001}}
    text = measured({"gate test": told})
    assert "clean auxiliaries alone 0.700; by how much an open gate lowers the error: clean +1.9%, noise -0.1%." in text


def test_text_around_the_markers_stays() -> None:
    assert replaced(f"before\n{START}\nold\n{END}\nafter", {}) == f"before\n{START}\n\n{END}\nafter"


def test_lesions_are_told_with_whose_they_are_and_what_was_not_measured_is_left_out() -> None:
    pytest.importorskip("torch", reason="the training room needs the train extra")
    from medk2n_cli.training import lesions

    rows = [lesions.LesionRow("a", ("T1",), "FLAIR", "MS lesion", 50, 0.5, 0.1)]
    alone = measured({"lesions": lesions.summary(rows, [], [])})
    assert "| MS lesion in FLAIR | 1 | 20% | T1 20% | 20-100 mm3: 20% |" in alone
    assert "MS lesion: a." in alone
    assert "Dice" not in alone
    assert "invented" not in alone
    healthy = [{"subject": f"healthy {n}", "have": ["T1"], "ml": n, "ml_white": n / 10} for n in (0, 2)]
    dice = [{"subject": "a", "have": ["T1"], "real": 0.7, "made": 0.2}]
    both = measured({"lesions": lesions.summary(rows, dice, healthy)})
    assert "all subsets: 0.20 against 0.70" in both
    assert "| all of the brain | 2 | 1.00 | 1.00 | 2.00 | T1 1.00 |" in both
    assert "| white matter | 2 | 0.10 | 0.10 | 0.20 | T1 0.10 |" in both
    assert "### Lesions" not in measured({})


def test_origins_are_told_with_what_is_known_of_them() -> None:
    known = {"r2": 0.5, "r2_window_free": 0.6, "r2_deep_window_free": 0.7}
    text = measured({"ours": {"steps": 3, "trained_on": ["b"], "a": known, "b": {"r2": 0.4}, "mean": {"r2": 0.45}}})
    assert "| a | 0.500, W 0.600, deep 0.700 |" in text
    assert "| b | 0.400 * |" in text, "trained on"
    earlier = measured({"ours": {"steps": 3, "b": {"r2": 0.4}, "mean": {"r2": 0.4}}})
    assert "0.400 (1" not in earlier, "nobody knows what it was trained on"
    assert "| mean of those never trained on | 0.500 (1 studies) |" in text
