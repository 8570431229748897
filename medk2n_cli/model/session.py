"""Running the graph: a pilot pass decides the gates for the whole volume, the main pass makes every slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from medk2n_cli.core.errors import DeviceError, WeightsError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput, ModelOutput, pilot_slices
from medk2n_cli.model.device import Device
from medk2n_cli.model.store import Weights

BATCH_SLICES = {True: 16, False: 2}  # on CUDA or not; two slices stay in a CPU's cache, 8 % faster than eight
AUTO = -1


@dataclass(frozen=True)
class Flow:
    """How slices go through the graph: how many at once (0: what suits the device), and who is told of (done, in all)."""

    at_once: int = 0
    tell: Callable[[int, int], None] = lambda done, total: None


_Answer = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Session:
    """Weights loaded on a device, ready to run."""

    weights: Weights
    device: Device
    runtime: ort.InferenceSession


def open_session(weights: Weights, device: Device) -> Session:
    """Load the graph and check it against its card.

    Raises:
        WeightsError: not an ONNX graph, or its inputs and outputs are not those of the card.
        DeviceError: CUDA was chosen and ONNX Runtime could not use it.
    """
    runtime = _on_cuda(weights, device) if device.is_cuda else _runtime(weights, device)
    if runtime is None:
        if not device.may_fall_back:
            raise DeviceError(
                f"--device {device.name}: ONNX Runtime could not load its CUDA libraries.",
                next_step="Install them with pip install '.[gpu]' in the checkout of medk2n, or use --device cpu.",
                code="CUDA_LIBRARIES",
            )
        why = "auto: a GPU is there, but the CUDA libraries could not be loaded"
        device = Device("cpu", why, device.threads, shared=device.shared)
        runtime = _runtime(weights, device)
    _check_contract(runtime, weights)
    return Session(weights, device, runtime)


def _on_cuda(weights: Weights, device: Device) -> ort.InferenceSession | None:
    """None where ONNX Runtime cannot use the GPU; a file that is no graph is refused when the CPU tries it."""
    try:
        runtime = _runtime(weights, device)
    except WeightsError:
        if not device.may_fall_back:
            _runtime(weights, Device("cpu", "", device.threads))  # is it the file?
        return None
    return runtime if "CUDAExecutionProvider" in runtime.get_providers() else None


def _runtime(weights: Weights, device: Device) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = device.threads
    if device.shared:  # alone it costs 7 %; beside a reader and a writer on two cores a batch was a fifth faster
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[object] = ["CPUExecutionProvider"]
    if device.is_cuda:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index}))
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # finds the CUDA libraries that the gpu extra installed beside it
    try:
        return ort.InferenceSession(str(weights.file), options, providers=providers, enable_fallback=0)  # it would not say so
    except Exception as failure:  # ONNX Runtime raises its own types, all derived from Exception
        raise WeightsError(
            f"{weights.file.name} is not a graph ONNX Runtime can load: {str(failure).splitlines()[0][:120]}.",
            next_step="Check the file with: medk2n inspect-weights " + weights.file.name,
            code="NOT_A_GRAPH",
        ) from failure


def _check_contract(runtime: ort.InferenceSession, weights: Weights) -> None:
    inputs = tuple(i.name for i in runtime.get_inputs())
    outputs = tuple(o.name for o in runtime.get_outputs())
    card = weights.card
    if set(inputs) != set(card.inputs) or outputs != card.outputs:
        raise WeightsError(
            f"The graph in {weights.file.name} does not keep its card's contract (inputs {', '.join(inputs)}).",
            next_step="Export the weights again, card and graph in one act: python -m medk2n_cli.training export",
            code="CONTRACT_BROKEN",
        )


def slices_at_once(session: Session) -> int:
    """How many slices suit the device."""
    return BATCH_SLICES[session.device.is_cuda]


def run(session: Session, given: ModelInput, want: Sequence[Modality], flow: Flow | None = None) -> ModelOutput:
    """Synthesise every slice of `given` for every modality of `want`; a pilot of some slices comes first.

    Raises:
        WeightsError: the graph failed or answered with values out of range.
    """
    flow = flow or Flow()
    size = flow.at_once or slices_at_once(session)
    pilot = pilot_slices(given.depth)
    total = given.depth + len(pilot)
    gates = np.full((len(want), len(given.have)), AUTO, np.float32)
    heads = np.full(len(want), AUTO, np.int64)
    try:
        seen = [_ask(session, given, numbers, want, gates, heads) for numbers in _runs(pilot, size)]
        flow.tell(len(pilot), total)
        gates, heads = _decide(session, _join(seen), given)
        parts = []
        for numbers in given.batches(size):
            parts.append(_ask(session, given, numbers, want, gates, heads))
            flow.tell(len(pilot) + int(numbers[-1]) + 1, total)
        return _output(session, _join(parts), given, tuple(want))
    except Exception as failure:  # as in _runtime: out of memory, a lost GPU, values out of range
        raise WeightsError(
            f"The weights '{session.weights.card.name}' failed on this study: {str(failure).splitlines()[0][:160]}.",
            next_step="Try --device cpu; else report it with the output of medk2n inspect-weights.",
            code="GRAPH_FAILED",
        ) from failure


def _runs(numbers: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [numbers[s : s + size] for s in range(0, len(numbers), size)]


def _ask(
    session: Session,
    given: ModelInput,
    numbers: NDArray[np.int64],
    want: Sequence[Modality],
    gates: NDArray[np.float32],
    heads: NDArray[np.int64],
) -> _Answer:
    slots = session.weights.card.modalities
    feeds = {
        "images": given.slices(numbers),
        "have": np.array([slots.index(m) for m in given.have], np.int64),
        "want": np.array([slots.index(m) for m in want], np.int64),
        "gate_override": gates,
        "head_override": heads,
    }
    return dict(zip(session.weights.card.outputs, session.runtime.run(None, feeds), strict=True))


def _join(parts: list[_Answer]) -> _Answer:
    """Answers of several batches as one; what does not depend on the slice is taken once."""
    return {n: parts[0][n] if n == "key" else np.concatenate([p[n] for p in parts]) for n in parts[0]}


def _decide(session: Session, pilot: _Answer, given: ModelInput) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The volume's gates and heads: the pilot's medians, as reports tell them. A gate that flips between slices makes slabs."""
    columns = _columns(session, given)
    weight, threshold = (np.median(pilot[name][..., columns], axis=0) for name in ("w_global", "threshold"))  # (N, K)
    gates = (weight >= threshold).astype(np.float32)
    heads = (pilot["head"].mean(axis=0) > 0.5).astype(np.int64)
    return gates, heads


def _columns(session: Session, given: ModelInput) -> list[int]:
    slots = session.weights.card.modalities
    return [slots.index(m) for m in given.have]


def _output(session: Session, answer: _Answer, given: ModelInput, want: tuple[Modality, ...]) -> ModelOutput:
    columns = _columns(session, given)
    pairs = {n: answer[n][..., columns] for n in ("w_global", "threshold", "gate", "w_eff", "gain")}
    return ModelOutput(
        want=want,
        synthesised=np.ascontiguousarray(answer["synthesised"].swapaxes(0, 1)),
        expected_error=np.ascontiguousarray(answer["expected_error"].swapaxes(0, 1)),
        key=np.argmax(answer["key"][:, columns], axis=1),
        quality=answer["quality"],
        head=answer["head"][0],
        identity=answer["identity"],
        input_identity=answer["input_identity"],
        level=(),
        **pairs,
    )
