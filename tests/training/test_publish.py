"""The folder for the Hub: what a repository needs, what its README says, and that it can be pulled again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medk2n_cli.core.errors import OutputError, WeightsError
from medk2n_cli.model.card import card_file
from medk2n_cli.model.hub import HubRevision, download
from medk2n_cli.model.store import find
from medk2n_cli.training.publish import publish
from tests import hub
from tests.conftest import TINY
from tests.hub import REPO, Hub


def test_the_folder_holds_the_pair_as_it_is_and_a_readme(tmp_path: Path) -> None:
    made = publish(TINY, tmp_path / "repository", REPO)
    assert made.files == ("README.md", "tiny.json", "tiny.onnx")
    assert (made.folder / "tiny.onnx").read_bytes() == TINY.read_bytes()
    assert (made.folder / "tiny.json").read_bytes() == card_file(TINY).read_bytes()
    assert [f.name for f in tmp_path.iterdir()] == ["repository"]


def test_the_hub_can_read_the_metadata(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    publish(TINY, tmp_path / "repository")
    data = ModelCard.load(tmp_path / "repository" / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag, data.language) == (
        "apache-2.0",
        "medk2n",
        "image-to-image",
        "en",
    )
    assert "onnx" in data.tags


def test_the_model_card_and_its_pictures_go_along(tmp_path: Path) -> None:
    embedded = find().file
    made = publish(embedded, tmp_path / "repository", "someone/medk2n-small")
    text = (made.folder / "README.md").read_text()
    assert "# Model card: medk2n-small" in text
    assert f"medk2n weights pull someone/medk2n-small@main --sha256 {find().card.sha256}" in text
    if (embedded.parent / "trust.png").is_file():  # beside the weights in a checkout, not in a wheel
        assert "trust.png" in made.files
    again = publish(made.folder / "medk2n-small.onnx", tmp_path / "again", "someone/medk2n-small")
    assert (again.folder / "README.md").read_text() == text


def test_what_is_published_can_be_pulled(tmp_path: Path) -> None:
    from huggingface_hub import close_session

    made = publish(TINY, tmp_path / "repository", REPO)
    with hub.serving(Hub({name: (made.folder / name).read_bytes() for name in made.files})) as server:
        snapshot = download(HubRevision(REPO, "main"), tmp_path / "cache", server.endpoint)
        close_session()
    assert find(str(snapshot.file)).card.sha256 == find(str(TINY)).card.sha256


def test_a_damaged_pair_or_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    for kind in (".onnx", ".json"):
        shutil.copyfile(TINY.with_suffix(kind), tmp_path / f"tiny{kind}")
    with pytest.raises(OutputError):
        publish(TINY, tmp_path)
    (tmp_path / "tiny.onnx").write_bytes(b"damaged")
    with pytest.raises(WeightsError):
        publish(tmp_path / "tiny.onnx", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_the_command_says_how_to_upload_and_needs_no_torch(tmp_path: Path) -> None:
    words = ["publish", str(TINY), "--out", str(tmp_path / "repository"), "--repo", REPO]
    code = f"import sys; from medk2n_cli.training.__main__ import main; main({words!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["upload"] == f"hf upload {REPO} {tmp_path / 'repository'} . --repo-type model"
