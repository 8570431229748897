from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medk2n_cli.core.errors import DeviceError, Medk2nError, RequestError, WeightsError
from medk2n_cli.core.modality import Modality
from medk2n_cli.model import device
from medk2n_cli.model.graph import gate_path, read_nodes
from medk2n_cli.model.plan import plan
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import Weights, find


@pytest.fixture
def copy(tiny: Weights, tmp_path: Path) -> Path:
    for suffix in (".onnx", ".json"):
        shutil.copy(tiny.file.with_suffix(suffix), tmp_path / f"mine{suffix}")
    return tmp_path / "mine.onnx"


def code_of(work: object) -> str:
    with pytest.raises(Medk2nError) as failure:
        work()  # type: ignore[operator]
    assert failure.value.next_step
    return failure.value.code


def test_the_embedded_weights_are_what_their_card_says() -> None:
    weights = find()
    assert weights.card.slots == ("T1", "T1C", "T2", "FLAIR", "DWI", "ADC")
    assert weights.file.stat().st_size < 10 * 2**20


def test_a_changed_byte_is_noticed(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(bytes(data))
    assert code_of(lambda: find(str(copy))) == "WEIGHTS_DAMAGED"


def test_weights_without_a_card_are_refused(copy: Path) -> None:
    copy.with_suffix(".json").unlink()
    assert code_of(lambda: find(str(copy))) == "NO_CARD"


@pytest.mark.parametrize(
    "change", [{"schema": "other/9"}, {"slots": ["T1", "T1"]}, {"slots": ["PET"]}, {"inputs": ["images"]}, {"pairs": [{"a": 1}]}]
)
def test_a_card_with_wrong_values_is_refused(copy: Path, change: dict[str, object]) -> None:
    card = copy.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    assert code_of(lambda: find(str(copy))) == "BAD_CARD"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_card_that_is_no_card_is_refused(copy: Path, text: str) -> None:
    copy.with_suffix(".json").write_text(text)
    assert code_of(lambda: find(str(copy))) == "BAD_CARD"


def test_missing_weights_name_the_known_ones() -> None:
    with pytest.raises(WeightsError) as failure:
        find("nobody")
    assert "medk2n-small" in failure.value.next_step


def test_a_foreign_file_is_no_graph(copy: Path) -> None:
    copy.write_bytes(b"PK\x03\x04 this is something else")
    card = copy.with_suffix(".json")
    from medk2n_cli.digest import sha256_of

    card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": sha256_of(copy)}))
    weights = find(str(copy))
    assert code_of(lambda: open_session(weights, device.choose_device("cpu"))) == "NOT_A_GRAPH"
    assert code_of(lambda: read_nodes(copy)) == "NOT_A_GRAPH"


@pytest.mark.parametrize("which", ["tiny", "embedded"])
def test_the_gate_is_decided_in_the_graph(tiny: Weights, which: str) -> None:
    nodes = read_nodes(tiny.file if which == "tiny" else find().file)
    path = gate_path(nodes)
    assert path[0].op == "GreaterOrEqual"
    assert path[-1].outputs == ("gate",)
    assert any(n.op == "Where" for n in path), "the override is applied in the graph"


def test_our_reader_sees_the_nodes_that_onnx_sees(tiny: Weights) -> None:
    onnx = pytest.importorskip("onnx")
    theirs = [(n.op_type, tuple(n.input), tuple(n.output)) for n in onnx.load(str(tiny.file)).graph.node]
    assert [(n.op, n.inputs, n.outputs) for n in read_nodes(tiny.file)] == theirs


def test_cuda_without_cuda_is_an_error_and_never_a_silent_cpu_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_problem", lambda: "no NVIDIA GPU found on this machine")
    with pytest.raises(DeviceError, match="no NVIDIA GPU"):
        device.choose_device("cuda")
    auto = device.choose_device("auto")
    assert auto.name == "cpu"
    assert "no NVIDIA GPU" in auto.why


def test_auto_falls_back_and_says_so_where_cuda_libraries_are_missing(tiny: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda_problem", lambda: None)
    if "CUDAExecutionProvider" in open_session(tiny, device.choose_device("auto")).runtime.get_providers():
        pytest.skip("this machine has CUDA")
    session = open_session(tiny, device.choose_device("auto"))
    assert session.device.name == "cpu"
    assert "could not be loaded" in session.device.why
    with pytest.raises(DeviceError, match="could not load"):
        open_session(tiny, device.choose_device("cuda"))


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="no device"):
        device.choose_device("tpu")


def test_what_is_missing_is_what_the_weights_know_and_the_study_lacks(tiny: Weights) -> None:
    assert plan(tiny.card, [Modality.T1, Modality.FLAIR], None) == (Modality.T1C, Modality.T2, Modality.DWI, Modality.ADC)


@pytest.mark.parametrize(
    ("acquired", "want", "code"),
    [
        ([Modality.T1], (Modality.T1,), "ALREADY_ACQUIRED"),
        (list(Modality), None, "NOTHING_MISSING"),
        ([], (Modality.T2,), "NO_USABLE_INPUT"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(
    tiny: Weights, acquired: list[Modality], want: tuple[Modality, ...] | None, code: str
) -> None:
    with pytest.raises(RequestError) as failure:
        plan(tiny.card, acquired, want)
    assert failure.value.code == code
