from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.training.replacing import replacing


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.npz"
    with replacing(file) as stream:
        np.savez(stream, x=np.arange(3))
        assert not file.exists()
    assert np.load(file)["x"].tolist() == [0, 1, 2]
    assert list(file.parent.iterdir()) == [file]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), replacing(file) as stream:
        stream.write(bytes([1, 2, 1 // 0]))
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_two_that_write_at_once_do_not_mix(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    with replacing(file) as first, replacing(file) as second:
        np.savez(first, x=np.zeros(10))
        np.savez(second, x=np.ones(10))
    assert np.load(file)["x"].tolist() in ([0] * 10, [1] * 10)


def test_a_killed_writer_leaves_nothing_that_looks_like_a_study(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, numpy as np; from medk2n_cli.training.replacing import replacing\n"
        "with replacing(pathlib.Path('a.npz')) as s: np.savez(s, x=np.ones(9)); s.flush(); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == -9
    assert not list(tmp_path.rglob("*.npz"))
