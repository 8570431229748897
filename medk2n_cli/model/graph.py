"""Looking into an ONNX file without the onnx package: the nodes of its graph, and the ones that decide the gate.

Only what `inspect-weights` shows is decoded: ModelProto.graph (7), GraphProto.node (1), NodeProto.input (1),
output (2), op_type (4), as onnx.proto numbers them; wire format as in the Protocol Buffers encoding guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.core.errors import WeightsError


@dataclass(frozen=True)
class Node:
    """One operation of the graph."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.outputs)} = {self.op}({', '.join(self.inputs)})"


def read_nodes(file: Path) -> list[Node]:
    """All nodes in the order of the file.

    Raises:
        WeightsError: the file is not an ONNX model.
    """
    try:
        graphs = [v for n, v in _fields(file.read_bytes()) if n == 7 and isinstance(v, bytes)]
        nodes = [_node(v) for g in graphs[:1] for n, v in _fields(g) if n == 1 and isinstance(v, bytes)]
    except (IndexError, ValueError) as failure:
        raise _foreign(file) from failure
    if not nodes:
        raise _foreign(file)
    return nodes


def gate_path(nodes: list[Node]) -> list[Node]:
    """From the comparison of w_global with the threshold to the graph's `gate` output, in order; empty if there is none."""
    makers = {name: node for node in nodes for name in node.outputs}
    path = _back(makers, "gate", set())
    return list(reversed(path or []))


def _back(makers: dict[str, Node], name: str, seen: set[str]) -> list[Node] | None:
    node = makers.get(name)
    if node is None or name in seen:
        return None
    seen.add(name)
    if node.op in ("GreaterOrEqual", "Greater", "LessOrEqual", "Less"):
        return [node] if any(i in makers for i in node.inputs) and _compares_weights(makers, node) else None
    for source in node.inputs:
        if (path := _back(makers, source, seen)) is not None:
            return [node, *path]
    return None


def _compares_weights(makers: dict[str, Node], node: Node) -> bool:
    """Both sides are computed, neither is a constant: w_global against threshold, not an override against zero."""
    return all(i in makers and makers[i].op != "Constant" for i in node.inputs)


def _node(data: bytes) -> Node:
    inputs, outputs, op = [], [], ""
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            inputs.append(value.decode())
        elif number == 2:
            outputs.append(value.decode())
        elif number == 4:
            op = value.decode()
    return Node(op, tuple(inputs), tuple(outputs))


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("field runs over the end")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _foreign(file: Path) -> WeightsError:
    return WeightsError(
        f"{file.name} is not an ONNX model, or it is damaged.",
        next_step="Get the file again; the embedded weights are shown by: medk2n inspect-weights",
        code="NOT_A_GRAPH",
    )
