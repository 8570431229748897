"""The graph as the tool runs it: order, gates, overrides, batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medk2n_cli.core.errors import WeightsError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput, ModelOutput
from medk2n_cli.model import session as runner
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import AUTO, Flow, Session, open_session, run
from medk2n_cli.model.store import Weights

T1, T1C, T2, FLAIR, DWI, ADC = Modality


@pytest.fixture(scope="module")
def opened(tiny: Weights) -> Session:
    return open_session(tiny, choose_device("cpu"))


def test_threads_that_share_their_cores_sleep_while_they_wait(opened: Session, tiny: Weights) -> None:
    key = "session.intra_op.allow_spinning"
    shared = open_session(tiny, replace(choose_device("cpu"), shared=True))
    assert shared.runtime.get_session_options().get_session_config_entry(key) == "0"
    with pytest.raises(RuntimeError):  # not set: ONNX Runtime's own default, which is faster alone
        opened.runtime.get_session_options().get_session_config_entry(key)


def given(have: tuple[Modality, ...], depth: int = 20) -> ModelInput:
    """Smooth blobs, different for every modality, zero around."""
    rng = np.random.default_rng(4)
    fields = rng.random((6, depth, 4, 4)).repeat(8, 2).repeat(8, 3)
    fields[..., :4, :] = 0
    return ModelInput(np.stack([fields[list(Modality).index(m)] for m in have]).astype(np.float32), have)


def ask(
    opened: Session, have: tuple[Modality, ...], want: tuple[Modality, ...], gates: list[float], head: int = AUTO
) -> dict[str, np.ndarray]:
    model_input = given(have)
    asked = np.array([gates] * len(want), np.float32)
    return runner._ask(opened, model_input, np.arange(8), want, asked, np.full(len(want), head, np.int64))


@pytest.mark.parametrize("want", [(FLAIR,), (T1C, FLAIR, ADC)])
def test_the_order_of_the_inputs_changes_nothing(opened: Session, want: tuple[Modality, ...]) -> None:
    one, other = run(opened, given((T1, T2, DWI)), want), run(opened, given((DWI, T1, T2)), want)
    assert np.allclose(one.synthesised, other.synthesised, atol=2e-5)
    assert np.allclose(one.w_eff, other.w_eff[..., [1, 2, 0]], atol=2e-5)


def test_the_order_of_the_targets_changes_nothing(opened: Session) -> None:
    one, other = run(opened, given((T1, T2)), (FLAIR, ADC)), run(opened, given((T1, T2)), (ADC, FLAIR))
    assert np.allclose(one.synthesised, other.synthesised[::-1], atol=2e-5)


def test_a_closed_gate_gives_the_image_without_that_input(opened: Session) -> None:
    alone = ask(opened, (T1,), (FLAIR,), [-1], head=1)
    key = ask(opened, (T1, T2), (FLAIR,), [0, 0], head=1)["key"][0]
    names = (T1, T2) if key[0] else (T2, T1)
    alone = ask(opened, names[:1], (FLAIR,), [-1], head=1)
    closed = ask(opened, names, (FLAIR,), [0, 0], head=1)
    opened_gate = ask(opened, names, (FLAIR,), [1, 1], head=1)
    assert np.allclose(alone["synthesised"], closed["synthesised"], atol=1e-5)
    assert np.abs(opened_gate["synthesised"] - closed["synthesised"]).max() > 1e-3


def test_the_override_wins_to_the_bit_and_the_key_frame_stays(opened: Session) -> None:
    for value in (0.0, 1.0):
        answer = ask(opened, (T1, T2, DWI), (FLAIR, ADC), [value] * 3)
        for n in range(2):
            for slot in (0, 2, 4):
                expected = 1.0 if answer["key"][n, slot] else value
                assert (answer["gate"][:, n, slot] == expected).all()


def test_unavailable_slots_are_zero(opened: Session) -> None:
    answer = ask(opened, (T1, T2), (FLAIR,), [-1, -1])
    for name in ("w_global", "threshold", "gate", "w_eff", "gain"):
        assert (answer[name][..., [1, 3, 4, 5]] == 0).all()


def test_left_to_itself_the_gate_is_the_comparison(opened: Session) -> None:
    answer = ask(opened, (T1, T2, DWI), (FLAIR, T1C), [-1, -1, -1])
    for n in range(2):
        for slot in (0, 2, 4):
            if not answer["key"][n, slot]:
                compared = answer["w_global"][:, n, slot] >= answer["threshold"][:, n, slot]
                assert (answer["gate"][:, n, slot] == compared).all()


def test_one_decision_holds_for_the_whole_volume(opened: Session) -> None:
    output = run(opened, given((T1, T2, DWI), depth=40), (FLAIR, ADC))
    assert (output.gate == output.gate[:1]).all()
    assert set(output.head.tolist()) <= {0, 1}


@pytest.mark.parametrize("at_once", [1, 3])
def test_how_many_slices_go_through_at_once_changes_nothing(opened: Session, at_once: int) -> None:
    whole = run(opened, given((T1, T2)), (FLAIR,))
    assert np.allclose(run(opened, given((T1, T2)), (FLAIR,), Flow(at_once)).synthesised, whole.synthesised, atol=2e-5)


def test_progress_reaches_the_end(opened: Session) -> None:
    told: list[tuple[int, int]] = []
    run(opened, given((T1,)), (T2,), Flow(tell=lambda done, total: told.append((done, total))))
    assert told[-1][0] == told[-1][1]
    assert [d for d, _ in told] == sorted(d for d, _ in told)


def test_out_of_range_answers_are_refused() -> None:
    good = {n: np.zeros((2, 1, 1), np.float32) for n in ("w_global", "threshold", "gate", "w_eff", "gain")}
    rest = {
        "synthesised": np.zeros((1, 2, 16, 16), np.float32),
        "expected_error": np.zeros((1, 2, 16, 16), np.float32),
        "key": np.zeros(1, np.int64),
        "quality": np.zeros((2, 1), np.float32),
        "head": np.zeros(1, np.int64),
        "identity": np.zeros((2, 1, 6), np.float32),
        "input_identity": np.zeros((2, 1, 6), np.float32),
    }
    ModelOutput(want=(T2,), **good, **rest)
    with pytest.raises(ValueError, match="w_eff"):
        ModelOutput(want=(T2,), **(good | {"w_eff": np.full((2, 1, 1), 1.5, np.float32)}), **rest)
    with pytest.raises(ValueError, match="not finite"):
        ModelOutput(want=(T2,), **good, **(rest | {"synthesised": np.full((1, 2, 16, 16), np.nan, np.float32)}))


def test_a_graph_that_fails_on_its_device_is_never_moved_to_another_in_silence(
    tiny: Weights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's own fallback prints to stdout and goes on on the CPU, while the manifest says cuda."""
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    session = open_session(tiny, choose_device("cpu"))
    runtime = session.runtime._sess

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(runtime, name)

        def run(self, *asked: object) -> object:
            raise EPFail("CUDA failure 700")

    monkeypatch.setattr(session.runtime, "_sess", Broken())
    with pytest.raises(WeightsError) as failure:
        run(session, given((T1, T2)), (FLAIR,))
    assert failure.value.code == "GRAPH_FAILED"
    assert capsys.readouterr().out == ""
