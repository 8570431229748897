from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the training room needs the train extra")


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("merge", "nowhere.safetensors", "elsewhere.safetensors", "--out", "o.safetensors"), "error: there is no checkpoint", 4),
        (("simulate", "--label-maps", "nowhere", "--out", "o"), "error: no head_*.nii.gz in nowhere: see --label-maps", 4),
        (("evaluate", "nowhere", "--cache", "cache"), "next: Check the path", 3),
    ],
)
def test_what_is_refused_is_told_in_a_line(words: tuple[str, ...], said: str, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medk2n_cli.training", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.glob("o*")), "and nothing is written"
