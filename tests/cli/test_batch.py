"""A night's export: one failure touches no other study, and what is done and unchanged is not done again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.studies import find_studies
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
COARSE = phantom.axial((5, 5, 12))


def export(folder: Path) -> Path:
    """Two DICOM studies in one heap, a NIfTI one, a BIDS one, and one whose only series has a gap."""
    for uid in ("1.2.3.1", "1.2.3.2"):
        dicoms.write_study(folder / "heap" / uid, (T1, T2), COARSE, uid)
    for file in (folder / "heap" / "1.2.3.2").iterdir():
        file.rename(folder / "heap" / f"{file.name}_b")
    phantom.write_study(folder / "patient 7", (T1, T2), COARSE)
    phantom.write_study(folder / "sub-01" / "anat", (T1,), COARSE)
    dicoms.write_study(folder / "broken", (T1,), COARSE, "1.2.3.9")
    for file in (folder / "broken").iterdir():
        if pydicom.dcmread(file).ImagePositionPatient[2] == COARSE.to_lps(phantom.np.array([0.0, 0.0, 4.0]))[2]:
            file.unlink()
    (folder / "empty" / "er").mkdir(parents=True)
    (folder / "notes.txt").write_text("hello")
    return folder


def rows(out: Path, stem: str = "batch") -> list[dict[str, str]]:
    with (out / f"{stem}.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [json.loads(line)["study"] for line in (out / f"{stem}.jsonl").read_text().splitlines()] == [r["study"] for r in read]
    return read


def batch(source: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return medk2n("batch", "--in", source, "--out", out, "--want", "FLAIR", "--weights", TINY, *more)


def test_studies_are_found_wherever_their_files_lie(tmp_path: Path) -> None:
    found = find_studies(export(tmp_path / "e"))
    assert [s.uid for s in found if s.uid] == ["1.2.3.1", "1.2.3.2", "1.2.3.9"]
    names = [s.name for s in found]
    assert "sub-01" in names
    assert all("/" not in n and " " not in n for n in names), "no name from outside decides a path"
    assert len(names) == 5


def test_a_batch_goes_on_after_a_failure_and_resumes_what_changed(tmp_path: Path) -> None:
    source, out = export(tmp_path / "e"), tmp_path / "o"
    done = batch(source, out)
    assert done.returncode == 8, done.stderr
    first = {r["study"]: r for r in rows(out)}
    assert sorted(r["status"] for r in first.values()) == ["done"] * 4 + ["failed"]
    assert first["1.2.3.9"]["code"] == "SLICE_GAP"
    for name, row in first.items():
        assert (out / name / "result.json").exists() == (row["status"] == "done")
        if row["status"] == "done":
            assert medk2n("verify", out / name).returncode == 0
    assert (out / "1.2.3.1" / "dicom").is_dir()
    assert "4 done, 1 failed" in " ".join(done.stdout.split())

    times = {name: (out / name / "result.json").stat().st_mtime_ns for name, r in first.items() if r["status"] == "done"}
    grid = phantom.axial((5, 5, 12))
    phantom.write(source / "patient 7" / "T2.nii.gz", phantom.volume(T2, grid, seed=9).astype("int16"), grid)
    assert batch(source, out, "--resume").returncode == 8
    second = {r["study"]: r["status"] for r in rows(out)}
    changed = [n for n, s in second.items() if s == "done"]
    assert len(changed) == 1
    assert sorted(second.values()) == ["done", "failed", "unchanged", "unchanged", "unchanged"]
    assert {r["targets"] for r in rows(out) if r["status"] != "failed"} == {"FLAIR"}, "also of what was left alone"
    kept = (out / "batch.csv").read_bytes()
    refused = batch(source, out)
    assert refused.returncode == 6, "without --resume, each of its results would be in the way"
    assert "--resume" in refused.stderr
    assert (out / "batch.csv").read_bytes() == kept
    for name, before in times.items():
        assert ((out / name / "result.json").stat().st_mtime_ns == before) == (name not in changed)

    batch(source, out, "--resume", "--ignore", "T2")
    assert {r["status"] for r in rows(out)} == {"done", "failed"}, "other options, other results"


def test_parts_share_the_work_and_a_dry_run_only_lists(tmp_path: Path) -> None:
    source = export(tmp_path / "e")
    listed = json.loads(batch(source, tmp_path / "dry", "--dry-run", "--json").stdout)["data"]["rows"]
    assert [r["number"] for r in listed] == [1, 2, 3, 4, 5]
    assert not (tmp_path / "dry").exists()
    seen = []
    for part in ("1/2", "2/2"):
        mine = json.loads(batch(source, tmp_path / "dry", "--dry-run", "--json", "--part", part).stdout)["data"]["rows"]
        seen += [r["study"] for r in mine]
    assert sorted(seen) == sorted(r["study"] for r in listed)
    assert failed(batch(source, tmp_path / "dry", "--part", "3/2", "--json"), 4)["code"] == "BAD_PART"
    assert batch(source, tmp_path / "o", "--part", "1/2", "--limit", "1").returncode == 0
    assert len(rows(tmp_path / "o", "batch_1_of_2")) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_two_batches_do_not_share_a_folder_and_a_stopped_one_can_go_on(tmp_path: Path) -> None:
    source = tmp_path / "e"
    for number in range(6):
        dicoms.write_study(source / str(number), (T1, T2), phantom.axial((2, 2, 5)), f"1.2.3.{number}")
    words = [sys.executable, "-m", "medk2n_cli", "batch", "--in", source, "--out", tmp_path / "o", "--want", "FLAIR,T1C"]
    running = subprocess.Popen([*map(str, words), "--weights", str(TINY)], stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "o" / "batch.jsonl").exists() and (tmp_path / "o" / "batch.jsonl").read_text().count("\n") >= 1:
            break
        time.sleep(0.1)
    assert failed(batch(source, tmp_path / "o", "--json"), 6)["code"] == "LOCKED"
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "--resume" in said
    finished = [r["study"] for r in rows(tmp_path / "o")]
    assert 1 <= len(finished) < 6
    for name in finished:
        assert medk2n("verify", tmp_path / "o" / name).returncode == 0
    assert list((tmp_path / "o").rglob(".medk2n-part-*")) == []
    assert (
        medk2n("batch", "--in", source, "--out", tmp_path / "o", "--want", "FLAIR,T1C", "--weights", TINY, "--resume").returncode
        == 0
    )
    status = {r["study"]: r["status"] for r in rows(tmp_path / "o")}
    assert set(status.values()) == {"done", "unchanged"}
    assert {n for n, s in status.items() if s == "unchanged"} >= set(finished)


def test_a_result_whose_page_could_not_be_made_is_made_again_on_resume(tmp_path: Path) -> None:
    source, out = tmp_path / "e", tmp_path / "o"
    phantom.write_study(source / "s", (T1, T2), COARSE)
    assert batch(source, out).returncode == 0
    manifest = json.loads((out / "s" / "result.json").read_text())
    manifest["outputs"] = [o for o in manifest["outputs"] if o["file"] != "report.html"]
    (out / "s" / "result.json").write_text(json.dumps(manifest))
    (out / "s" / "report.html").unlink()
    assert batch(source, out, "--resume").returncode == 0
    assert [r["status"] for r in rows(out)] == ["done"]
    assert (out / "s" / "report.html").exists()


def test_dicom_without_a_study_uid_is_not_lost_and_becomes_nifti(tmp_path: Path) -> None:
    dicoms.write_study(tmp_path / "e" / "nameless", (T1, T2), COARSE, "1.2.3.4")
    for file in (tmp_path / "e" / "nameless").rglob("*"):
        if file.is_file():
            header = pydicom.dcmread(file)
            del header.StudyInstanceUID
            header.save_as(file)
    assert batch(tmp_path / "e", tmp_path / "o").returncode == 0
    assert [(r["study"], r["status"]) for r in rows(tmp_path / "o")] == [("nameless", "done")]
    assert (tmp_path / "o" / "nameless" / "synth_FLAIR.nii.gz").exists(), "there is no study to file DICOM under"


@pytest.mark.parametrize("jobs", [1, 3])
def test_studies_overlap_share_the_memory_and_stay_in_order(tmp_path: Path, jobs: int) -> None:
    for number in range(5):
        phantom.write_study(tmp_path / "e" / f"s{number}", (T1, T2), COARSE)
    done = batch(tmp_path / "e", tmp_path / "o", "--jobs", jobs, "--max-memory", "600M", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["data"]["rows"]
    assert [(r["number"], r["study"], r["status"]) for r in told] == [(n + 1, f"s{n}", "done") for n in range(5)]
    refused = batch(tmp_path / "e", tmp_path / "o2", "--max-memory", "100M")
    assert refused.returncode == 8
    assert {r["code"] for r in rows(tmp_path / "o2")} == {"TOO_MUCH_MEMORY"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_inbox_is_watched_until_a_stop_and_a_half_copied_study_waits(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "o"
    phantom.write_study(inbox / "first", (T1, T2), COARSE)
    words = ["batch", "--in", inbox, "--out", out, "--want", "FLAIR", "--weights", TINY, "--watch", "2"]
    running = subprocess.Popen([sys.executable, "-m", "medk2n_cli", *map(str, words)], stderr=subprocess.PIPE, text=True)
    try:
        _until(lambda: (out / "first" / "result.json").exists())
        whole = phantom.write_study(tmp_path / "aside", (T1, T2), COARSE)
        (inbox / "second").mkdir()
        (inbox / "second" / "T1.nii.gz").write_bytes((whole / "T1.nii.gz").read_bytes())
        content = (whole / "T2.nii.gz").read_bytes()
        with (inbox / "second" / "T2.nii.gz").open("wb") as slowly:
            for start in range(0, len(content), len(content) // 8):
                slowly.write(content[start : start + len(content) // 8])
                slowly.flush()
                time.sleep(0.7)
        assert not (out / "second").exists(), "it was still being copied"
        _until(lambda: (out / "second" / "result.json").exists())
    finally:
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Go on with the same command" in said
    assert [(r["study"], r["status"]) for r in rows(out)] == [("first", "done"), ("second", "done")]
    for study in ("first", "second"):
        assert medk2n("verify", out / study).returncode == 0


def _until(happened: Callable[[], bool]) -> None:
    for _ in range(900):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("it never happened")


def test_an_export_of_zips_is_read_and_an_empty_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    study = dicoms.write_study(tmp_path / "s", (T1, T2), COARSE, "1.2.3.1")
    shutil.make_archive(str(tmp_path / "e" / "p1"), "zip", study)
    done = batch(tmp_path / "e", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [(r["study"], r["status"]) for r in rows(tmp_path / "out")] == [("p1", "done")]
    assert (tmp_path / "out" / "p1" / "dicom").is_dir()
    (tmp_path / "nothing").mkdir()
    error = failed(batch(tmp_path / "nothing", tmp_path / "o2", "--json"), 3)
    assert error["code"] == "NOTHING_FOUND"


def test_a_failure_without_names_names_no_file(tmp_path: Path) -> None:
    for name in ("Doe_Jane_T1_a", "Doe_Jane_T1_b"):
        phantom.write(tmp_path / "e" / "p" / f"{name}.nii.gz", phantom.volume(T1, COARSE), COARSE)
    done = batch(tmp_path / "e", tmp_path / "out", "--deid")
    assert rows(tmp_path / "out")[0]["code"] == "DUPLICATE_MODALITY"
    told = done.stdout + done.stderr + "".join(f.read_text() for f in (tmp_path / "out").glob("batch.*"))
    assert "Doe" not in told
