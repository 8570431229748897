from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

import onnx  # noqa: E402

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.core.tensors import ModelInput, ModelOutput  # noqa: E402
from medk2n_cli.model.device import choose_device  # noqa: E402
from medk2n_cli.model.selftest import difference  # noqa: E402
from medk2n_cli.model.session import open_session  # noqa: E402
from medk2n_cli.model.store import Weights, find  # noqa: E402
from medk2n_cli.training import quantise as module  # noqa: E402
from medk2n_cli.training.dataset import SLOTS, PackedStudy, Sample, training_slices  # noqa: E402
from medk2n_cli.training.quantise import Loss, TooRough, quantise, summary  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

TINY = Path(__file__).parents[1] / "data" / "tiny.onnx"


def study() -> PackedStudy:
    """Three contrasts of an ellipsoid with a core."""
    z, y, x = np.meshgrid(np.arange(8), np.arange(48), np.arange(48), indexing="ij")
    radius = np.hypot((y - 24) / 20, (x - 24) / 18)
    head = torch.from_numpy((radius < 1) & (z >= 0))
    images = [(radius < 1) * (0.5 + s * (radius < 0.4) + 0.01 * z) for s in (-0.3, 0.6, -0.2)]
    stack = torch.from_numpy(np.stack(images).astype(np.float16))
    return PackedStudy("held-out", stack, (0, 2, 3), head, torch.zeros_like(head), True, head)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return training_slices([formula_head()], [study()], size=(48, 48))[::8]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> Weights:
    file = tmp_path_factory.mktemp("weights") / "tiny-int8.onnx"
    quantise(find(str(TINY)), file, samples, [study()])
    return find(str(file))


def test_samples_are_simulated_and_real_and_always_the_same() -> None:
    one, other = (training_slices([formula_head()], [study()], size=(48, 48)) for _ in range(2))
    assert [len(s.slots) for s in one] == [6] * 40 + [3] * 40
    assert all(torch.equal(a.acquired, b.acquired) for a, b in zip(one, other, strict=True))
    assert len(training_slices([formula_head()], [], size=(48, 48))) == 40


def test_only_what_residual_blocks_and_hidden_layers_compute_is_rounded(made: Weights) -> None:
    graph = onnx.load(made.file).graph
    weights = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n.input[1] for n in graph.node if n.op_type == "Conv"]
    rounded = {weights[c] for c in convolutions if c in weights}
    assert rounded
    assert all(module.ROUNDED.search(name) for name in rounded)
    assert not any(module.ROUNDED.search(c) for c in convolutions if c not in weights)
    stored = {i.name: i for i in graph.initializer}
    assert all(stored[name].data_type == onnx.TensorProto.INT8 for name in rounded)


def test_the_variant_runs_as_weights_of_its_own_name_and_says_what_it_lost(made: Weights) -> None:
    session = open_session(made, choose_device("cpu"))
    assert difference(session) < 1e-6
    assert made.card.name == "tiny-int8"
    assert "Eight-bit variant of tiny" in made.card.limits[-1]
    told = made.card.metrics["eight bits"]
    assert isinstance(told, dict)
    assert told["of_sha256"] == find(str(TINY)).card.sha256
    assert (list(told["db_lost_mean_by_subject"]), told["questions"]) == (["held-out"], 9)
    assert told["db_lost_most"] > 0, "eight bits leave a trace"
    assert told["db_lost_mean"] <= module.MOST_DB_LOST


def test_the_variant_is_checked_on_slices_beside_their_own_neighbours(made: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ModelInput] = []
    asked = module._Both.ask

    def spy(both: module._Both, given: ModelInput, want: Modality) -> tuple[ModelOutput, ModelOutput]:
        seen.append(given)
        return asked(both, given, want)

    monkeypatch.setattr(module._Both, "ask", spy)
    both = module._Both(*(open_session(w, choose_device("cpu")) for w in (find(str(TINY)), made)))
    assert len(list(module._losses(both, study()))) == 9
    whole = study().images.float().numpy()
    assert all(np.array_equal(given.stack, whole[[study().slots.index(SLOTS.index(m)) for m in given.have]]) for given in seen)


def test_a_variant_that_loses_too_much_is_refused_and_what_is_there_stays(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny-int8.onnx"
    file.write_bytes(b"what is there")
    monkeypatch.setattr(module, "MOST_DB_LOST", -99.0)
    with pytest.raises(TooRough, match="nothing was written"):
        quantise(find(str(TINY)), file, samples, [study()])
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == b"what is there"


def test_the_loss_is_told_with_its_worst_case() -> None:
    rows = [Loss("a", ("T1",), "T2", 0.02, True, 0.001), Loss("b", ("T2",), "T1", 0.3, False, 0.02)]
    told = summary(find(str(TINY)).card, rows, 1.777)
    assert told["db_lost_mean"] == 0.16
    assert told["db_lost_mean_by_subject"] == {"a": 0.02, "b": 0.3}
    assert told["db_lost_most"] == 0.3
    assert told["same_gates"] == 0.5
    assert told["predicted_ssim_off_most"] == 0.02
    assert told["times_faster"] == 1.78
    json.dumps(told)
