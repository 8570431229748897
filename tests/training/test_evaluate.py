from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.core.tensors import ModelInput  # noqa: E402
from medk2n_cli.model.device import choose_device  # noqa: E402
from medk2n_cli.model.session import open_session  # noqa: E402
from medk2n_cli.model.store import Weights  # noqa: E402
from medk2n_cli.training.__main__ import main  # noqa: E402
from medk2n_cli.training.evaluate import Rivals, _around, evaluate, summary  # noqa: E402
from medk2n_cli.training.metrics import ssim_by_slice  # noqa: E402
from medk2n_cli.training.prepare import prepare_all, training_voxels  # noqa: E402
from tests import phantom  # noqa: E402

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def half(given: ModelInput, want: list[Modality]) -> np.ndarray:
    return np.full((len(want), *given.stack.shape[1:]), 0.5, np.float32)


def bright(given: ModelInput, want: list[Modality]) -> np.ndarray:
    return half(given, want) * np.float32(1.5)


def test_every_subset_is_scored_beside_baselines_and_rivals(tmp_path: Path, tiny: Weights) -> None:
    study = phantom.write_study(tmp_path / "data" / "one", (T1, T2, FLAIR))
    phantom.write_study(tmp_path / "data" / "two", (T1, T2, FLAIR))
    voxels = training_voxels(prepare_all([tmp_path / "data"], tmp_path / "cache", ["one"]))
    session = open_session(tiny, choose_device("cpu"))
    rows = evaluate(session, study, Rivals(voxels, {"half": half, "bright": bright}))
    assert len(rows) == 9, "three single inputs with two targets each, three pairs with one"
    told = summary(rows)
    assert told["subsets"] == 6
    assert set(told["protocol_H"]) == {"medk2n", "constant", "matched", "quadratic", "half", "bright"}
    assert told["protocol_H"]["constant"]["r2"] == pytest.approx(0, abs=1e-3)
    assert told["protocol_H"]["quadratic"]["r2"] > 0.3, "the other study is the same head"
    h, own = told["protocol_H"], told["own_level"]
    assert h["bright"]["r2"] == pytest.approx(h["half"]["r2"], abs=1e-3), "what the tool does to its own images it does to others"
    assert own["bright"]["r2"] < own["half"]["r2"] == pytest.approx(h["half"]["r2"], abs=1e-3)
    assert own["constant"] == {"r2": pytest.approx(h["constant"]["r2"], abs=1e-3)}
    assert len(told["quality_calibration"]) == 5
    assert len(told["expected_error_reliability"]) == 10
    predicted = [p for p, _ in told["expected_error_reliability"]]
    assert predicted == sorted(predicted)


def test_weights_are_not_measured_on_what_they_were_trained_on(tmp_path: Path, tiny: Weights) -> None:
    study = phantom.write_study(tmp_path / "one", (T1, T2))
    card = replace(tiny.card, training={**tiny.card.training, "real_studies": ["one"]})
    file = tmp_path / "own.onnx"
    file.write_bytes(tiny.file.read_bytes())
    file.with_suffix(".json").write_text(json.dumps(card.to_dict()), encoding="utf-8")
    with pytest.raises(ValueError, match="one: trained on that patient"):
        main(["evaluate", str(study), "--weights", str(file), "--cache", str(tmp_path / "cache")])


def test_means_of_neighbours_leave_out_what_lies_beyond_the_head() -> None:
    values, head = np.full((2, 12, 12), 3.0, np.float32), np.zeros((2, 12, 12), bool)
    head[:, 2:9, 2:9] = True
    values[0, 5, 5] = 28.0
    values[~head] = 100.0
    near = _around(values, head)
    assert near[1][head[1]] == pytest.approx(3.0, abs=1e-4)
    assert (near[0, 5, 5], near[0, 6, 4], near[0, 7, 3]) == pytest.approx((4.0, 4.0, 3 + 25 / 16), abs=1e-3)


def test_ssim_of_slices_without_head_is_not_a_number() -> None:
    image, head = np.random.default_rng(0).random((3, 40, 40)).astype(np.float32), np.ones((3, 40, 40), bool)
    head[2] = False
    found = ssim_by_slice(image, image, head, 1.0)
    assert found[:2] == pytest.approx([1, 1], abs=1e-3)
    assert np.isnan(found[2])
