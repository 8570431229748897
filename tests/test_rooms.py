"""The walls of the house: which room may import which room and which library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import medk2n_cli

PACKAGE = Path(medk2n_cli.__file__).parent

# room: (rooms it may import, libraries it may import). training also goes through the tool's own reading and aligning,
# so that a network is trained on exactly what it will be given.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "core": (set(), {"numpy"}),
    "digest": (set(), set()),
    "itk": ({"core"}, {"numpy", "SimpleITK"}),
    "reading": ({"core", "itk", "digest"}, {"numpy", "SimpleITK", "pydicom"}),
    "aligning": ({"core", "itk"}, {"numpy", "SimpleITK"}),
    "packing": ({"core"}, {"numpy"}),
    "model": ({"core", "digest"}, {"numpy", "onnxruntime", "huggingface_hub"}),
    "writing": ({"core", "itk", "digest"}, {"numpy", "SimpleITK", "pydicom", "highdicom", "jinja2", "matplotlib"}),
    "checking": ({"core", "reading", "aligning", "packing", "model", "pipeline"}, {"numpy"}),
    "verifying": ({"core", "reading", "digest"}, {"numpy"}),
    "sending": ({"core"}, {"pydicom", "pynetdicom"}),
    "batching": ({"core", "writing"}, {"distributed"}),
    "pipeline": ({"core", "reading", "aligning", "packing", "model"}, set()),
    "cli": (
        {"core", "digest", "model", "pipeline", "reading", "packing", "writing", "checking", "verifying", "sending", "batching"},
        {"typer", "rich"},
    ),
    "training": (
        {"core", "itk", "digest", "reading", "aligning", "packing", "model"},
        {"numpy", "torch", "onnx", "onnxruntime", "safetensors", "scipy", "SimpleITK", "matplotlib", "transformers", "peft"}
        | {"huggingface_hub"},
    ),
    "__init__": ({"pipeline"}, set()),
    "__main__": ({"cli"}, set()),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is meant"
            assert node.module is not None
            yield from (f"{node.module}.{a.name}" if node.module == "medk2n_cli" else node.module for a in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_what_its_walls_allow(file: Path) -> None:
    room = room_of(file)
    rooms, libraries = ROOMS[room]
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        head, _, rest = name.partition(".")
        if head == "medk2n_cli":
            other = rest.split(".")[0]
            assert other in rooms | {room, "__version__"}, f"{room} may not import {other}"
        elif head not in sys.stdlib_module_names:
            assert head in libraries, f"{room} may not import {head}"


def test_every_room_is_in_the_table_and_every_row_is_a_room() -> None:
    assert {room_of(f) for f in FILES} == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_modules_stay_small(file: Path) -> None:
    limit = 500 if file.name == "network.py" else 300
    assert len(file.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) not in ("cli", "training")], ids=lambda f: f.stem)
def test_only_the_command_line_prints_or_exits(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "input")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr != "exit"
