"""`medk2n weights`: list, pull, verify, export, import, as users and scripts meet them; each command a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from medk2n_cli.model.card import card_file
from medk2n_cli.model.store import find
from tests import hub
from tests.cli.test_commands import failed
from tests.conftest import TINY
from tests.hub import COMMIT, REPO, Hub
from tests.model.test_install import changed_card, members, rezipped

TINY_DIGEST = json.loads(card_file(TINY).read_text())["sha256"]


class Host:
    """A machine with a weights folder, a download cache and an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.cache = folder / "weights", folder / "cache"
        # The names of tools and proxies around the tests are not part of what is tested.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
        self.environment = kept | {"MEDK2N_WEIGHTS_DIR": str(self.weights), "HF_HOME": str(self.cache), "HF_TOKEN": ""}

    def run(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-m", "medk2n_cli", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=240,
            env={**self.environment, **environment},
        )

    def done(self, *words: object, **environment: str) -> dict[str, object]:
        """The data of a command that works."""
        done = self.run(*words, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["data"]  # type: ignore[no-any-return]

    def refused(self, exit_code: int, *words: object, **environment: str) -> dict[str, str]:
        """The error of a command that fails; nothing may be left behind."""
        before = self.kept()
        error = failed(self.run(*words, "--json", **environment), exit_code)
        assert self.kept() == before
        return error

    def kept(self) -> list[str]:
        return sorted(f.name for f in self.weights.iterdir()) if self.weights.is_dir() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture
def server() -> Iterator[Hub]:
    files = {"tiny.onnx": TINY.read_bytes(), "tiny.json": card_file(TINY).read_bytes(), "README.md": b"# tiny\n"}
    with hub.serving(Hub(files)) as serving:
        yield serving


@pytest.fixture
def archive(host: Host, tmp_path: Path) -> Path:
    return Path(str(host.done("weights", "export", TINY, "--out", tmp_path / "tiny.medk2n.zip")["file"]))


def test_pulled_weights_are_found_by_name_and_remember_where_they_came_from(host: Host, server: Hub) -> None:
    data = host.done("weights", "pull", f"{REPO}@main", HF_ENDPOINT=server.endpoint)
    assert (data["name"], data["new"], data["sha256"]) == ("tiny@0.1.0", True, TINY_DIGEST)
    assert (data["revision"], data["commit"]) == ("main", COMMIT)
    assert host.kept() == [f"tiny@0.1.0{kind}" for kind in (".json", ".md", ".onnx", ".source.json")]
    rows = {w["name"]: w for w in host.done("weights", "list")["weights"]}  # type: ignore[attr-defined]
    assert rows["tiny@0.1.0"]["source"] == {"kind": "pull", "repo": REPO, "revision": "main", "commit": COMMIT}
    assert host.done("inspect-weights", "tiny")["card"]["sha256"] == TINY_DIGEST  # type: ignore[index]


def test_people_are_told_how_to_get_the_very_same_weights_again(host: Host, server: Hub) -> None:
    done = host.run("weights", "pull", f"{REPO}@main", HF_ENDPOINT=server.endpoint)
    assert done.returncode == 0, done.stderr
    assert f"again: medk2n weights pull {REPO}@{COMMIT} --sha256 {TINY_DIGEST}\n" in done.stdout
    assert "--weights tiny@0.1.0" in done.stdout
    assert done.stderr == "", "no progress off a terminal"
    again = host.done("weights", "pull", f"{REPO}@{COMMIT}", "--sha256", TINY_DIGEST, HF_ENDPOINT=server.endpoint)
    assert again["new"] is False


def test_pulling_asks_one_host_for_the_pair_and_sends_no_telemetry(host: Host, server: Hub) -> None:
    host.done("weights", "pull", f"{REPO}@main", HF_ENDPOINT=server.endpoint)
    assert server.hosts == {f"localhost:{server.port}"}
    paths = {path.rsplit("/", 1)[0] for _, path in server.asked}
    assert paths <= {f"/api/models/{REPO}/revision", f"/api/models/{REPO}/tree", f"/{REPO}/resolve/{COMMIT}"}
    assert server.asked != []


def test_a_proxy_is_honoured_and_sees_every_request(host: Host, server: Hub) -> None:
    host.done("weights", "pull", f"{REPO}@main", HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=server.endpoint)
    assert server.hosts == {"hub.invalid"}


def test_no_command_but_pull_opens_a_connection(host: Host, server: Hub, archive: Path) -> None:
    for words in (["list"], ["verify"], ["export", "--out", archive.parent / "x.zip"], ["import", archive]):
        host.done("weights", *words, HF_ENDPOINT=server.endpoint, HTTP_PROXY=server.endpoint)
    host.refused(5, "inspect-weights", REPO, HF_ENDPOINT=server.endpoint)
    assert server.asked == []


def test_a_damaged_file_is_not_installed(host: Host, server: Hub) -> None:
    server.files["tiny.onnx"] = b"?" + server.files["tiny.onnx"][1:]
    error = host.refused(5, "weights", "pull", f"{REPO}@main", HF_ENDPOINT=server.endpoint)
    assert error["code"] == "WEIGHTS_DAMAGED"


def test_another_file_than_asked_for_is_not_installed(host: Host, server: Hub, archive: Path) -> None:
    pull = ("weights", "pull", f"{REPO}@main", "--sha256", "0" * 64)
    assert host.refused(5, *pull, HF_ENDPOINT=server.endpoint)["code"] == "WRONG_DIGEST"
    assert host.refused(5, "weights", "import", archive, "--sha256", "0" * 64)["code"] == "WRONG_DIGEST"


@pytest.mark.parametrize(("what", "digest", "code"), [(REPO, "", "NO_REVISION"), (f"{REPO}@main", "abc", "BAD_DIGEST")])
def test_what_is_not_said_in_full_is_not_asked_for(host: Host, server: Hub, what: str, digest: str, code: str) -> None:
    error = host.refused(4, "weights", "pull", what, "--sha256", digest, HF_ENDPOINT=server.endpoint)
    assert error["code"] == code
    assert server.asked == []


@pytest.mark.parametrize(
    ("what", "code"),
    [("no/body@main", "REPO_NOT_FOUND"), (f"{REPO}@v9", "REVISION_NOT_FOUND")],
)
def test_what_the_hub_does_not_have_is_named(host: Host, server: Hub, what: str, code: str) -> None:
    assert host.refused(5, "weights", "pull", what, HF_ENDPOINT=server.endpoint)["code"] == code


def test_a_reset_connection_installs_nothing_and_the_same_command_goes_through(host: Host, server: Hub) -> None:
    server.cuts, server.rude = 1, True
    pull = ("weights", "pull", f"{REPO}@main")
    assert host.refused(5, *pull, HF_ENDPOINT=server.endpoint)["code"] == "DOWNLOAD_CUT"
    assert host.done(*pull, HF_ENDPOINT=server.endpoint)["new"] is True


def test_without_a_network_the_other_way_is_named(host: Host) -> None:
    error = host.refused(5, "weights", "pull", f"{REPO}@main", HF_ENDPOINT=f"http://localhost:{hub.closed_port()}")
    assert error["code"] == "NO_CONNECTION"
    assert "HTTPS_PROXY" in error["next_step"]
    assert "medk2n weights import" in error["next_step"]


def test_offline_means_offline_and_the_cache_is_enough(host: Host, server: Hub) -> None:
    offline = {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "1"}
    assert host.refused(5, "weights", "pull", f"{REPO}@main", **offline)["code"] == "OFFLINE"
    assert server.asked == []
    host.done("weights", "pull", f"{REPO}@main", HF_ENDPOINT=server.endpoint)
    shutil.rmtree(host.weights)
    server.asked.clear()
    assert host.done("weights", "pull", f"{REPO}@main", **offline)["commit"] == COMMIT
    assert server.asked == []


def test_a_cache_or_folder_that_cannot_be_written_is_named(host: Host, server: Hub, archive: Path) -> None:
    below_a_file = str(archive / "folder")  # root may write anywhere, but not below a file
    pull = ("weights", "pull", f"{REPO}@main")
    error = host.refused(6, *pull, HF_ENDPOINT=server.endpoint, HF_HUB_CACHE=below_a_file)
    assert error["code"] == "CACHE_NOT_WRITABLE"
    server.asked.clear()
    for words in (pull, ("weights", "import", archive)):
        error = host.refused(6, *words, HF_ENDPOINT=server.endpoint, MEDK2N_WEIGHTS_DIR=below_a_file)
        assert error["code"] == "CANNOT_WRITE"
        assert "MEDK2N_WEIGHTS_DIR" in error["next_step"]
    assert server.asked == [], "a folder that cannot be written costs no download"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_that_is_not_trusted_is_called_one_and_a_sites_own_is_honoured(
    host: Host, server: Hub, tmp_path: Path
) -> None:
    pem = hub.self_signed(tmp_path / "site.pem")
    bare = {"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
    with hub.serving(Hub(server.files), pem) as secure:
        pull, at = ("weights", "pull", f"{REPO}@main"), {"HF_ENDPOINT": secure.endpoint}
        error = host.refused(5, *pull, **bare, **at)
        assert error["code"] == "CERTIFICATE"
        assert "self-signed certificate" in error["problem"].replace("self signed", "self-signed")
        assert "SSL_CERT_FILE" in error["next_step"]
        missing = host.refused(5, *pull, **{**bare, **at, "REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem")})
        assert missing["code"] == "CERTIFICATE"
        assert "none.pem" in missing["problem"]
        assert secure.asked == []
        site = str(pem.with_suffix(".crt"))
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            assert host.done(*pull, **{**bare, **at, variable: site})["sha256"] == TINY_DIGEST
        assert secure.asked != []


def test_what_was_exported_is_imported_elsewhere_and_loads(host: Host, archive: Path, tmp_path: Path) -> None:
    other = Host(tmp_path / "other")
    data = other.done("weights", "import", archive)
    assert (data["name"], data["new"]) == ("tiny@0.1.0", True)
    assert other.done("weights", "import", archive)["new"] is False
    assert other.done("inspect-weights", "tiny")["card"]["sha256"] == TINY_DIGEST  # type: ignore[index]
    assert host.kept() == []


def test_the_same_weights_export_to_the_same_bytes(host: Host, archive: Path, tmp_path: Path) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copyfile(TINY.with_suffix(suffix), tmp_path / f"tiny{suffix}")  # other times, another folder
    host.done("weights", "export", tmp_path / "tiny.onnx", "--out", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    assert zipfile.ZipFile(archive).namelist() == ["tiny.json", "tiny.onnx"]


def test_an_export_carries_the_readme_and_names_itself_in_a_folder(host: Host, tmp_path: Path) -> None:
    data = host.done("weights", "export", "--out", tmp_path)
    file = tmp_path / f"medk2n-small-{data['version']}.medk2n.zip"
    with zipfile.ZipFile(file) as made:
        assert made.namelist() == ["medk2n-small.json", "medk2n-small.onnx", "README.md"]
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == [file.name]


def test_an_export_replaces_nothing_unasked(host: Host, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_text("precious")
    assert host.refused(6, "weights", "export", TINY, "--out", mine)["code"] == "OUT_NOT_EMPTY"
    assert mine.read_text() == "precious"
    host.done("weights", "export", TINY, "--out", mine, "--overwrite")
    assert host.refused(6, "weights", "export", TINY, "--out", mine / "below" / "x.zip")["code"] == "CANNOT_WRITE"


def test_what_is_no_export_is_refused(host: Host, archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-1])
    assert host.refused(5, "weights", "import", archive)["code"] == "BAD_ARCHIVE"
    assert host.refused(5, "weights", "import", "nowhere.zip")["code"] == "ARCHIVE_NOT_FOUND"


def test_the_name_of_embedded_weights_cannot_be_taken(host: Host, archive: Path) -> None:
    embedded = find().card
    as_small = {"tiny.onnx": members(archive)["tiny.onnx"]}
    made = rezipped(archive, {**as_small, "tiny.json": changed_card(TINY, name=embedded.name, version=embedded.version)})
    error = host.refused(5, "weights", "import", made)
    assert error["code"] == "NAME_TAKEN"
    assert "came with the installation" in error["problem"]
    made = rezipped(archive, {**as_small, "tiny.json": changed_card(TINY, name=embedded.name, version="9.9")})
    assert host.done("weights", "import", made)["name"] == f"{embedded.name}@9.9"
    digests = {w: host.done("inspect-weights", w)["card"]["sha256"] for w in (embedded.name, f"{embedded.name}@9.9")}  # type: ignore[index]
    assert digests == {embedded.name: embedded.sha256, f"{embedded.name}@9.9": TINY_DIGEST}
    pinned = host.done("inspect-weights", f"{embedded.name}@{embedded.version}")
    assert pinned["card"]["sha256"] == embedded.sha256  # type: ignore[index]


def test_one_name_and_version_is_one_file_and_two_versions_must_be_told_apart(host: Host, archive: Path) -> None:
    host.done("weights", "import", archive)
    content, card = members(archive), json.loads(card_file(TINY).read_text())
    card["sha256"] = find().card.sha256
    small = find().file.read_bytes()
    made = rezipped(archive, {"tiny.onnx": small, "tiny.json": json.dumps(card).encode()})
    assert host.refused(5, "weights", "import", made)["code"] == "NAME_TAKEN"
    made = rezipped(archive, {**content, "tiny.json": changed_card(TINY, version="0.2.0")})
    host.done("weights", "import", made)
    error = host.refused(5, "inspect-weights", "tiny")
    assert error["code"] == "WEIGHTS_AMBIGUOUS"
    assert error["next_step"] == "Say which: tiny@0.1.0, tiny@0.2.0."


def test_verify_finds_the_damaged_pair_among_the_whole_ones_and_import_mends_it(host: Host, archive: Path) -> None:
    host.done("weights", "import", archive)
    assert {w["verified"] for w in host.done("weights", "verify")["weights"]} == {True}  # type: ignore[attr-defined]
    file = host.weights / "tiny@0.1.0.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    assert host.refused(5, "weights", "verify")["code"] == "WEIGHTS_DAMAGED"
    shown = host.run("weights", "verify")
    assert "verified: 2 of 3" in shown.stderr
    assert "bad: tiny@0.1.0" in shown.stderr
    assert host.done("weights", "verify", find().card.name)["weights"][0]["verified"] is True  # type: ignore[index]
    assert host.done("weights", "import", archive)["new"] is True
    host.done("weights", "verify")


def test_a_file_whose_card_never_came_is_listed_as_bad_and_mended(host: Host, archive: Path) -> None:
    host.done("weights", "import", archive)
    (host.weights / "tiny@0.1.0.json").unlink()
    listed = host.run("weights", "list")
    assert listed.returncode == 0, listed.stderr
    assert "bad: tiny@0.1.0: tiny@0.1.0.onnx has no card" in listed.stdout
    assert host.done("weights", "import", archive)["new"] is True


def test_the_list_fits_80_columns(host: Host, archive: Path) -> None:
    host.done("weights", "import", archive)
    shown = host.run("weights", "list")
    table = shown.stdout.splitlines()[:-1]
    assert [line.split()[0] for line in table] == ["name", "medk2n-small", "medk2n-small-int8", "tiny@0.1.0"]
    assert max(len(line) for line in table) <= 80


def test_every_weights_command_has_help_with_an_example(host: Host) -> None:
    for command in ("list", "pull", "verify", "export", "import"):
        shown = host.run("weights", command, "--help")
        assert shown.returncode == 0
        assert f"Example: medk2n weights {command}" in shown.stdout


def test_help_loads_no_download_library() -> None:
    code = "import sys, medk2n_cli.cli.app, medk2n_cli.pipeline; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
