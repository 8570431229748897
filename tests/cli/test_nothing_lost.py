"""Killed at any moment, on a full disk, in a folder that cannot be written: what was there stays, nothing is half-written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medk2n_cli.core.modality import Modality
from tests import dicoms, phantom
from tests.cli.test_batch import batch, rows
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
COARSE = phantom.axial((6, 6, 14))
KILLING = Path(__file__).with_name("killing.py")
ROOT = Path(__file__).resolve().parents[2]


def content(out: Path) -> dict[str, str]:
    """Digest of every file below `out`, without what tells of time and memory."""
    return {f.relative_to(out).as_posix(): _digest(f) for f in sorted(out.rglob("*")) if f.is_file() and f.parent != out}


def _digest(file: Path) -> str:
    raw = file.read_bytes()
    if file.name == "result.json":
        stored = json.loads(raw)
        for name in ("seconds", "peak_memory_mb"):
            del stored[name]
        stored["outputs"] = [o for o in stored["outputs"] if o["file"] != "report.html"]
        raw = json.dumps(stored).encode()
    if file.name == "report.html":
        raw = re.sub(rb"<dt>(seconds|peak memory mb)</dt>\s*<dd>[^<]*</dd>", b"", raw)
    return hashlib.sha256(raw).hexdigest()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_fifty_moments_a_batch_still_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    source = tmp_path / "e"
    for number in range(3):
        phantom.write_study(source / f"s{number}", (T1, T2), COARSE)
    assert batch(source, tmp_path / "calm").returncode == 0
    wanted = content(tmp_path / "calm")
    out = tmp_path / "o"
    words = ["batch", "--in", source, "--out", out, "--want", "FLAIR", "--weights", TINY, "--resume"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, KILLING, 50, 7, 2.5, *words]
    told = subprocess.run([*map(str, run)], capture_output=True, text=True, env=environment, timeout=900)
    assert told.stdout.split()[:1] == ["50"], told.stderr[-2000:]
    done = batch(source, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert {r["status"] for r in rows(out)} <= {"done", "unchanged"}
    assert content(out) == wanted
    assert not [p for p in out.rglob(".medk2n*") if p.exists()], "no lock, no staging, no journal is left"
    for number in range(3):
        assert medk2n("verify", out / f"s{number}").returncode == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("room", ["200k", "1m"])
def test_a_full_disk_fails_its_studies_and_leaves_the_earlier_results_whole(tmp_path: Path, room: str) -> None:
    source, disk = tmp_path / "e", tmp_path / "disk"
    for number in range(4):
        phantom.write_study(source / f"s{number}", (T1, T2), COARSE)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        done = batch(source, disk / "o")
        assert done.returncode == 8, done.stderr
        told = rows(disk / "o")
        assert {r["code"] for r in told if r["status"] == "failed"} == {"CANNOT_WRITE"}
        for row in told:
            folder = disk / "o" / row["study"]
            whole = (folder / "result.json").exists()
            assert whole == (row["status"] == "done")
            assert whole or not folder.exists() or not list(folder.iterdir()), "all of it or nothing"
            if whole:
                assert medk2n("verify", folder).returncode == 0
        before = content(disk / "o")
        batch(source, disk / "o", "--overwrite", "--ignore", "T2")
        assert content(disk / "o").keys() >= before.keys(), "a result that could not be replaced is still there"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_output_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    source = phantom.write_study(tmp_path / "e", (T1, T2), COARSE)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert failed(batch(source, out, "--json"), 6)["code"] == "CANNOT_WRITE"
    assert (tmp_path / "file").read_text() == "mine"
    if Path("/proc").is_dir():
        assert failed(batch(source, Path("/proc/medk2n"), "--json"), 6)["code"] == "CANNOT_WRITE"


def test_input_that_vanishes_on_the_way_fails_its_study_alone(tmp_path: Path) -> None:
    source = tmp_path / "e"
    for number in range(3):
        dicoms.write_study(source / str(number), (T1, T2), COARSE, f"1.2.3.{number}")
    script = (
        "import shutil, sys; from pathlib import Path\n"
        "import medk2n_cli.cli.undertaking as u; from medk2n_cli.cli.app import main\n"
        "whole = u.prepare\n"
        "def prepare(request, *rest):\n"
        "    if request.study == '1.2.3.1':\n"
        "        for file in request.where[3:]: file.unlink()\n"
        "    return whole(request, *rest)\n"
        "u.prepare = prepare\n"
        "main()\n"
    )
    words = ["batch", "--in", source, "--out", tmp_path / "o", "--want", "FLAIR", "--weights", TINY]
    ran = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 8, ran.stderr
    assert [r["status"] for r in rows(tmp_path / "o")] == ["done", "failed", "done"]
    assert "BUG" not in {r["code"] for r in rows(tmp_path / "o")}
    shutil.rmtree(source)
    assert failed(batch(source, tmp_path / "o", "--json"), 3)["code"] == "NOT_FOUND"


def test_a_result_of_another_kind_is_never_replaced(tmp_path: Path) -> None:
    study, out = phantom.write_study(tmp_path / "s", (T1, T2), COARSE), tmp_path / "o"
    made = medk2n("synthesize", "--in", study, "--want", "FLAIR", "--out", out, "--weights", TINY)
    assert made.returncode == 0, made.stderr
    before = content(out) | {f.name: _digest(f) for f in out.iterdir() if f.is_file()}
    error = failed(medk2n("audit", "--in", study, "--out", out, "--weights", TINY, "--overwrite", "--json"), 6)
    assert error["code"] == "OTHER_RESULT"
    assert content(out) | {f.name: _digest(f) for f in out.iterdir() if f.is_file()} == before


def test_an_audit_that_found_nothing_leaves_the_earlier_one(tmp_path: Path) -> None:
    study, out = phantom.write_study(tmp_path / "s", (T1, T2), COARSE), tmp_path / "o"
    assert medk2n("audit", "--in", study, "--out", out, "--weights", TINY).returncode == 0
    before = (out / "audit.csv").read_text()
    gone = ("--in", tmp_path / "gone1", "--in", tmp_path / "gone2")
    failed(medk2n("audit", *gone, "--out", out, "--weights", TINY, "--overwrite", "--json"), 6)
    assert (out / "audit.csv").read_text() == before != ""


def test_a_ledger_in_the_result_or_a_folder_with_an_unwritable_name_is_refused_before_any_work(tmp_path: Path) -> None:
    study = phantom.write_study(tmp_path / "s", (T1, T2), COARSE)
    ask = ("synthesize", "--in", study, "--want", "FLAIR", "--weights", TINY, "--json")
    assert failed(medk2n(*ask, "--out", tmp_path / "o", "--ledger", tmp_path / "o" / "l.jsonl"), 4)["code"] == "LEDGER_INSIDE"
    assert failed(medk2n(*ask, "--out", tmp_path / os.fsdecode(b"o_\xe4")), 6)["code"] == "BAD_NAME"
    assert [f.name for f in tmp_path.iterdir()] == ["s"]
