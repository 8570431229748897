"""Archives and cards that others wrote: where they may end up, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from medk2n_cli.core.errors import Medk2nError, WeightsError
from medk2n_cli.model.archive import read_archive, stored_name, write_archive
from medk2n_cli.model.card import card_file, read_card
from medk2n_cli.model.install import install, source_of, staging
from medk2n_cli.model.store import Weights, find, names, user_folder
from tests.conftest import TINY

SOURCE = {"kind": "import"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's weights folder, empty."""
    monkeypatch.setenv("MEDK2N_WEIGHTS_DIR", str(tmp_path / "user" / "weights"))
    return user_folder()


@pytest.fixture
def archive(tiny: Weights, tmp_path: Path) -> Path:
    write_archive(tiny, tmp_path / "tiny.medk2n.zip")
    return tmp_path / "tiny.medk2n.zip"


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {n: opened.read(n) for n in opened.namelist()}


def changed_card(file: Path, **changes: object) -> bytes:
    return json.dumps(json.loads(card_file(file).read_text()) | changes).encode()


def rezipped(archive: Path, content: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    made = archive.with_name("made.medk2n.zip")
    with zipfile.ZipFile(made, "w", compression) as out:
        for name, data in content.items():
            out.writestr(name, data)
    return made


def import_(archive: Path) -> str:
    with staging() as unpacked:
        return install(read_archive(archive, unpacked), SOURCE).name


def refused(archive: Path) -> str:
    """The code; nothing may be left behind."""
    with pytest.raises(Medk2nError) as failure:
        import_(archive)
    assert list(user_folder().iterdir()) == []
    assert failure.value.next_step
    return failure.value.code


def test_imported_weights_are_found_by_name_by_version_and_remember_their_source(folder: Path, archive: Path) -> None:
    assert import_(archive) == "tiny@0.1.0"
    assert find("tiny").file == find("tiny@0.1.0").file == folder / "tiny@0.1.0.onnx"
    assert "tiny@0.1.0" in names()
    assert source_of(find("tiny").file)["kind"] == "import"


@pytest.mark.parametrize("name", ["../tiny.onnx", "/tiny.onnx", "a/tiny.onnx", "..onnx", ".onnx", "C:tiny.onnx", "a\\b.onnx"])
def test_an_archive_cannot_choose_where_it_is_unpacked(folder: Path, archive: Path, name: str, tmp_path: Path) -> None:
    content = members(archive)
    made = rezipped(archive, {name: content["tiny.onnx"], name.replace(".onnx", ".json"): content["tiny.json"]})
    assert refused(made) == "BAD_ARCHIVE"
    assert [f for f in tmp_path.rglob("*") if f.suffix in (".onnx", ".json")] == []


@pytest.mark.parametrize("word", ["../evil", "evil/../x", "", ".hidden", "a" * 65, "a b", "evil\n", "a@b", "a..b", 5, None])
@pytest.mark.parametrize("field", ["name", "version"])
def test_a_card_cannot_choose_where_weights_are_kept(folder: Path, archive: Path, field: str, word: object) -> None:
    content = members(archive)
    made = rezipped(archive, {"tiny.onnx": content["tiny.onnx"], "tiny.json": changed_card(TINY, **{field: word})})
    assert refused(made) == "BAD_CARD"


@pytest.mark.parametrize("version", ["0.1.0", "1.0.0rc1", "0.2.0+cpu", "2026-01", "1.0-beta.2"])
def test_the_usual_versions_can_be_kept(tmp_path: Path, version: str) -> None:
    (tmp_path / "tiny.json").write_bytes(changed_card(TINY, version=version))
    assert stored_name(read_card(tmp_path / "tiny.onnx")) == f"tiny@{version}"


@pytest.mark.parametrize("how", ["a member more", "compressed", "no card", "no graph", "empty", "another name"])
def test_only_what_export_writes_is_imported(folder: Path, archive: Path, how: str) -> None:
    content = members(archive)
    graph, card = content["tiny.onnx"], content["tiny.json"]
    made = {
        "a member more": lambda: rezipped(archive, {**content, "run.sh": b"#!/bin/sh"}),
        "compressed": lambda: rezipped(archive, content, zipfile.ZIP_DEFLATED),
        "no card": lambda: rezipped(archive, {"tiny.onnx": graph}),
        "no graph": lambda: rezipped(archive, {"tiny.json": card}),
        "empty": lambda: rezipped(archive, {}),
        "another name": lambda: rezipped(archive, {"tiny.onnx": graph, "other.json": card}),
    }
    assert refused(made[how]()) == "BAD_ARCHIVE"


@pytest.mark.parametrize("length", [0, 100, 300_000, -1])
def test_an_archive_that_was_cut_short_is_noticed(folder: Path, archive: Path, length: int) -> None:
    archive.write_bytes(archive.read_bytes()[:length])
    assert refused(archive) == "BAD_ARCHIVE"


def test_a_bit_that_flipped_on_the_way_is_noticed(folder: Path, archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    assert refused(archive) == "BAD_ARCHIVE"


def test_a_graph_that_is_not_the_cards_is_refused(folder: Path, archive: Path) -> None:
    content = members(archive)
    made = rezipped(archive, {"tiny.onnx": content["tiny.onnx"] + b"\0", "tiny.json": content["tiny.json"]})
    assert refused(made) == "WEIGHTS_DAMAGED"


def test_a_foreign_file_with_a_true_card_is_no_graph(folder: Path, archive: Path) -> None:
    foreign = b"PK\x03\x04 this is something else"
    card = changed_card(TINY, sha256=hashlib.sha256(foreign).hexdigest())
    assert refused(rezipped(archive, {"tiny.onnx": foreign, "tiny.json": card})) == "NOT_A_GRAPH"


@pytest.mark.parametrize("change", [{"slots": [1]}, {"pairs": None}, {"sha256": 5}, {"schema": "other/9"}, {"outputs": ["x"]}])
def test_a_card_of_another_kind_is_refused(folder: Path, archive: Path, change: dict[str, object]) -> None:
    content = members(archive)
    made = rezipped(archive, {"tiny.onnx": content["tiny.onnx"], "tiny.json": changed_card(TINY, **change)})
    assert refused(made) == "BAD_CARD"


def test_a_hand_copied_file_cannot_take_the_place_of_embedded_weights(folder: Path, tiny: Weights) -> None:
    folder.mkdir(parents=True)
    embedded = find()
    for kind in (".onnx", ".json"):
        (folder / f"{embedded.card.name}{kind}").write_bytes(tiny.file.with_suffix(kind).read_bytes())
    assert find(embedded.card.name).file == embedded.file


def test_weights_live_where_the_environment_says_else_where_the_system_keeps_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDK2N_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "medk2n" / "weights"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_folder() == tmp_path / "home" / ".local" / "share" / "medk2n" / "weights"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert user_folder() == tmp_path / "local" / "medk2n" / "weights"
    monkeypatch.setenv("MEDK2N_WEIGHTS_DIR", str(tmp_path / "mine"))
    assert user_folder() == tmp_path / "mine"


def test_a_name_that_nothing_has_is_not_looked_for_anywhere_else(folder: Path) -> None:
    with pytest.raises(WeightsError) as failure:
        find("someone/tiny")
    assert failure.value.code == "WEIGHTS_NOT_FOUND"
