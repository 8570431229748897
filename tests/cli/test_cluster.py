"""A batch on a real Dask scheduler with two worker processes, one of which is killed on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medk2n_cli.core.modality import Modality
from tests import phantom
from tests.cli.test_batch import batch, rows
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

pytest.importorskip("distributed", reason="dask.distributed is not installed (the cluster extra)")
T1, T1C, T2, FLAIR, DWI, ADC = Modality
COARSE = phantom.axial((5, 5, 12))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler, and its two workers, a thread each."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> None:
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "dask", *words]
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT, cwd=tmp_path))

    try:
        start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        address = _logged(tmp_path / "scheduler.log", r"Scheduler at:\s+(tcp://\S+)")
        for name in ("one", "two"):
            start(name, "worker", address, "--nthreads", "1", "--name", name, "--no-nanny", "--no-dashboard")
            _logged(tmp_path / f"{name}.log", r"Registered to:\s+(tcp://\S+)")
        yield address, running[1:]
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _logged(log: Path, pattern: str) -> str:
    for _ in range(600):
        if log.exists() and (found := re.search(pattern, log.read_text())):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def export(folder: Path, count: int) -> Path:
    for number in range(count):
        phantom.write_study(folder / f"s{number}", (T1, T2), COARSE)
    return folder


def test_a_lost_workers_studies_run_elsewhere_and_every_row_comes_home(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, workers = cluster
    source, out = export(tmp_path / "e", 8), tmp_path / "o"
    words = ["batch", "--in", source, "--out", out, "--want", "FLAIR", "--weights", TINY, "--cluster", address]
    running = subprocess.Popen(
        [sys.executable, "-m", "medk2n_cli", *map(str, words)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(1200):
        if (out / "batch.jsonl").exists() and (out / "batch.jsonl").read_text().count("\n") >= 2:
            break
        time.sleep(0.05)
    workers[0].send_signal(signal.SIGKILL)
    _, said = running.communicate(timeout=180)
    assert running.returncode == 0, said.decode()
    assert [r["status"] for r in rows(out)].count("done") == 8
    for number in range(8):
        assert medk2n("verify", out / f"s{number}").returncode == 0
    again = batch(source, out, "--cluster", address, "--resume")
    assert again.returncode == 0, again.stderr
    assert {r["status"] for r in rows(out)} == {"unchanged"}


def test_a_study_that_fails_on_a_worker_is_a_row_like_any_other_and_a_gpu_study_waits_for_a_gpu(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    address, _ = cluster
    source = export(tmp_path / "e", 1)
    phantom.write_study(source / "flat", (T1,), COARSE)
    phantom.write(source / "flat" / "T2.nii.gz", phantom.np.full(COARSE.shape, 5, "int16"), COARSE)
    done = batch(source, tmp_path / "o", "--cluster", address)
    assert done.returncode == 8, done.stderr
    told = {r["study"]: r for r in rows(tmp_path / "o")}
    assert told["s0"]["status"] == "done"
    assert told["flat"]["code"] == "EMPTY_VOLUME"
    from medk2n_cli.cli.clustering import Job
    from medk2n_cli.cli.synthesising import Machine, Output
    from medk2n_cli.pipeline import Request

    for device, occupied in (("cpu", {}), ("cuda:1", {"GPU": 1.0})):
        assert Job(Request(()), Output(tmp_path), Machine(device=device), resume=False).resources == occupied


def test_without_a_worker_that_has_a_gpu_a_gpu_batch_says_so(
    tmp_path: Path, cluster: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    source = export(tmp_path / "e", 1)
    told = failed(batch(source, tmp_path / "o", "--cluster", cluster[0], "--device", "cuda", "--json"), 7)
    assert told["code"] == "NO_WORKER"
    assert "none with GPU=1" in told["problem"]


def test_a_worker_with_other_weights_than_the_client_refuses(tmp_path: Path) -> None:
    from medk2n_cli.cli.clustering import Job, one_study
    from medk2n_cli.cli.synthesising import Machine, Output
    from medk2n_cli.pipeline import Request
    from medk2n_cli.reading.studies import find_studies

    (study,) = find_studies(export(tmp_path / "e", 1))
    job = Job(Request((), (FLAIR,)), Output(tmp_path / "o"), Machine(str(TINY), "cpu"), resume=False, sha256="0" * 64)
    assert one_study(job, (1, study))["code"] == "OTHER_WEIGHTS"
    assert not (tmp_path / "o").exists()


def test_no_scheduler_and_no_sense_are_told(tmp_path: Path) -> None:
    source = export(tmp_path / "e", 1)
    told = failed(batch(source, tmp_path / "o", "--cluster", "tcp://127.0.0.1:9", "--json"), 7)
    assert told["code"] == "CLUSTER_UNREACHABLE"
    assert failed(batch(source, tmp_path / "o", "--cluster", "tcp://x:1", "--watch", "5", "--json"), 4)["code"] == "BAD_MANNER"
    assert json.loads(batch(source, tmp_path / "o", "--json").stdout)["data"]["rows"][0]["status"] == "done"
