"""Downloading from a server that speaks the Hub's protocol: what is asked, what is kept, what each failure says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from medk2n_cli.core.errors import Medk2nError, OutputError, RequestError, WeightsError
from medk2n_cli.model.card import card_file
from medk2n_cli.model.hub import HubRevision, download
from tests import hub
from tests.conftest import TINY
from tests.hub import COMMIT, REPO, Hub

MAIN = HubRevision(REPO, "main")


def tiny_files() -> dict[str, bytes]:
    return {"tiny.onnx": TINY.read_bytes(), "tiny.json": card_file(TINY).read_bytes(), "README.md": b"# tiny\n"}


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub.serving(Hub(tiny_files())) as serving:
        yield serving
        from huggingface_hub import close_session

        close_session()


def refused(server: Hub, asked: HubRevision, cache: Path, kind: type[Medk2nError] = WeightsError) -> Medk2nError:
    with pytest.raises(kind) as failure:
        download(asked, cache, server.endpoint)
    assert failure.value.next_step
    return failure.value


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_a_branch_a_tag_and_a_commit_give_the_same_pair_and_the_commit_they_stand_for(
    server: Hub, revision: str, tmp_path: Path
) -> None:
    snapshot = download(HubRevision(REPO, revision), tmp_path, server.endpoint)
    assert snapshot.commit == COMMIT
    assert snapshot.file.read_bytes() == TINY.read_bytes()
    assert card_file(snapshot.file).read_bytes() == card_file(TINY).read_bytes()


def test_nothing_is_asked_but_the_revision_its_files_and_the_pair(server: Hub, tmp_path: Path) -> None:
    server.files |= {"other.safetensors": b"x" * 20_000, "old/tiny.onnx": b"y", "old/tiny.json": b"{}"}
    download(MAIN, tmp_path, server.endpoint)
    files = {f"/{REPO}/resolve/{COMMIT}/{name}" for name in tiny_files()}
    about = {f"/api/models/{REPO}/revision/main", f"/api/models/{REPO}/tree/{COMMIT}"}
    assert {path for _, path in server.asked} == files | about, "no telemetry, nothing else of the repository"
    assert {method for method, _ in server.asked} == {"GET", "HEAD"}
    assert server.hosts == {f"localhost:{server.port}"}


def test_the_server_learns_what_asks_and_nothing_about_who_or_where(server: Hub, tmp_path: Path) -> None:
    download(MAIN, tmp_path, server.endpoint)
    (agent,) = server.agents
    assert {word.split("/")[0] for word in agent.split("; ")} == {"medk2n", "hf_hub", "python"}


def test_what_is_in_the_cache_is_not_downloaded_again(server: Hub, tmp_path: Path) -> None:
    first = download(MAIN, tmp_path, server.endpoint)
    server.asked.clear()
    assert download(MAIN, tmp_path, server.endpoint) == first
    assert [a for a in server.asked if "resolve" in a[1]] == []


def test_a_cut_connection_is_tried_again_at_once(server: Hub, tmp_path: Path) -> None:
    server.cuts = 1
    assert download(MAIN, tmp_path, server.endpoint).file.read_bytes() == TINY.read_bytes()


def test_a_large_file_goes_on_where_it_was_cut(server: Hub, tmp_path: Path) -> None:
    server.files["tiny.onnx"] = large = bytes(range(256)) * (21 * 2**12)
    server.cuts = 1
    assert download(MAIN, tmp_path, server.endpoint).file.read_bytes() == large
    assert server.ranges == [f"bytes={10 * 2**20}-"], "the library writes, and so keeps, 10 MB at a time"


def test_a_reset_connection_is_an_error_and_the_next_try_goes_through(server: Hub, tmp_path: Path) -> None:
    server.cuts, server.rude = 1, True
    failure = refused(server, MAIN, tmp_path)
    assert failure.code == "DOWNLOAD_CUT"
    assert "again" in failure.next_step
    assert download(MAIN, tmp_path, server.endpoint).file.read_bytes() == TINY.read_bytes()


def test_a_repository_that_is_not_there_is_named(server: Hub, tmp_path: Path) -> None:
    failure = refused(server, HubRevision("nobody/nothing", "main"), tmp_path)
    assert failure.code == "REPO_NOT_FOUND"
    assert "nobody/nothing" in failure.problem


def test_a_revision_that_is_not_there_is_told_from_a_repository_that_is_not(server: Hub, tmp_path: Path) -> None:
    failure = refused(server, HubRevision(REPO, "v9"), tmp_path)
    assert failure.code == "REVISION_NOT_FOUND"
    assert "v9" in failure.problem


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"README.md": b"# nothing\n"}, "no pair"),
        ({"a.onnx": b"a"}, "no pair"),
        ({"a.onnx": b"a", "a.json": b"{}", "b.onnx": b"b", "b.json": b"{}"}, "more than one pair"),
    ],
)
def test_a_repository_without_exactly_one_pair_is_refused(
    server: Hub, files: dict[str, bytes], problem: str, tmp_path: Path
) -> None:
    server.files = files
    failure = refused(server, MAIN, tmp_path)
    assert failure.code == "NO_PAIR"
    assert problem in failure.problem


def test_a_server_that_is_not_there_is_no_connection(tmp_path: Path) -> None:
    nowhere = Hub({}, port=hub.closed_port())
    failure = refused(nowhere, MAIN, tmp_path)
    assert failure.code == "NO_CONNECTION"
    assert "medk2n weights import" in failure.next_step


def test_a_cache_that_cannot_be_written_is_named(server: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")  # root may write anywhere, but not below a file
    failure = refused(server, MAIN, tmp_path / "file" / "cache", OutputError)
    assert failure.code == "CACHE_NOT_WRITABLE"
    assert "HF_HUB_CACHE" in failure.next_step


@pytest.mark.parametrize("text", ["someone/tiny", "someone/tiny@", "@main", "", "../x@main", "a/b/c@main", "a/b@../../x y"])
def test_a_revision_must_be_given(text: str) -> None:
    with pytest.raises(RequestError) as failure:
        HubRevision.parse(text)
    assert failure.value.code == "NO_REVISION"


@pytest.mark.parametrize("text", ["someone/tiny@main", "tiny@v0.1.0", f"{REPO}@{COMMIT}", "a/b@refs/pr/1"])
def test_a_revision_is_whatever_the_hub_calls_one(text: str) -> None:
    assert str(HubRevision.parse(text)) == text
