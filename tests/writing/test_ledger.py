"""The ledger: every synthetic object, whole lines whoever writes, and what bad weights made is found again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from medk2n_cli.core.errors import OutputError, RequestError
from medk2n_cli.core.modality import Modality
from medk2n_cli.writing.ledger import Entry, append, read
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
COARSE = phantom.axial((5, 5, 12))


def entry(number: int, sha256: str = "ab" * 32) -> Entry:
    weights = {"name": "w", "version": "1", "sha256": sha256}
    return Entry("2026-01-01T00:00:00+00:00", f"/out/{number}", "synth_T2.nii.gz", "T2", "", "", (), "cd" * 32, weights, ())


def test_dicom_and_nifti_objects_are_listed_before_they_are_in_place_and_found_by_weights(tmp_path: Path) -> None:
    ledger, study = tmp_path / "kept" / "ledger.jsonl", dicoms.write_study(tmp_path / "d", (T1, T2), COARSE, "1.2.3.4")
    words = ("--want", "FLAIR", "--weights", TINY, "--ledger", ledger)
    done = medk2n("synthesize", "--in", study, "--out", tmp_path / "r", "--format", "both", *words)
    assert done.returncode == 0, done.stderr
    data = json.loads(medk2n("ledger", ledger, "--json").stdout)["data"]
    nifti, image, report = sorted(data["entries"], key=lambda e: (e["modality"] == "SR", bool(e["series_uid"])))
    files = sorted((tmp_path / "r" / image["file"]).iterdir())
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in files]
    assert {h.SeriesInstanceUID for h in headers} == {image["series_uid"]}
    assert sorted(h.SOPInstanceUID for h in headers) == sorted(image["objects"])
    assert image["study_uid"] == "1.2.3.4"
    acquired = {str(pydicom.dcmread(f).SeriesInstanceUID) for f in Path(tmp_path / "d").rglob("*") if f.is_file()}
    assert set(image["sources"]) == acquired
    assert report["modality"] == "SR"
    manifest = json.loads((tmp_path / "r" / "result.json").read_text())
    assert nifti["sha256"] in {f["sha256"] for f in manifest["outputs"]}
    sha = manifest["weights"]["sha256"]
    assert image["weights"]["sha256"] == sha
    assert image["series_uid"] in medk2n("ledger", ledger, "--weights", sha[:10]).stdout
    assert json.loads(medk2n("ledger", ledger, "--weights", "0123", "--json").stdout)["data"]["entries"] == []


def test_a_deidentified_result_names_no_source(tmp_path: Path) -> None:
    study, ledger = dicoms.write_study(tmp_path / "d", (T1, T2), COARSE, "1.2.3.4"), tmp_path / "l"
    words = ("--want", "FLAIR", "--weights", TINY, "--ledger", ledger, "--deid")
    assert medk2n("synthesize", "--in", study, "--out", tmp_path / "r", *words).returncode == 0
    for one in read(ledger)[0]:
        assert one["sources"] == []
        assert one["study_uid"] != "1.2.3.4"


def test_without_its_ledger_nothing_is_written(tmp_path: Path, head_study: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("--want", "FLAIR", "--weights", TINY, "--ledger", tmp_path / "file" / "ledger", "--json")
    assert failed(medk2n("synthesize", "--in", head_study, "--out", tmp_path / "r", *words), 6)["code"] == "NO_LEDGER"
    assert not (tmp_path / "r").exists()


def test_writers_at_the_same_time_lose_no_line(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path; from tests.writing.test_ledger import append, entry\n"
        "for n in range(50): append(Path(sys.argv[1]), [entry(int(sys.argv[2]) * 100 + n)] * 3)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "l"), str(n), root]) for n in range(4)]
    assert [p.wait(120) for p in running] == [0] * 4
    found, broken = read(tmp_path / "l")
    assert broken == 0
    assert len(found) == 600
    assert len({str(e["result"]) for e in found}) == 200


def test_a_line_cut_by_a_crash_spoils_no_other_and_is_told(tmp_path: Path) -> None:
    ledger = tmp_path / "l"
    append(ledger, [entry(1)])
    with ledger.open("a") as file:
        file.write('{"schema": "medk2n.led')
    append(ledger, [entry(2, "ff" * 32)])
    found, broken = read(ledger)
    assert [e["result"] for e in found] == ["/out/1", "/out/2"]
    assert broken == 1
    assert [e["result"] for e in read(ledger, "ffff")[0]] == ["/out/2"]
    assert len(read(ledger, "w")[0]) == 2
    assert "1 lines are damaged" in medk2n("ledger", ledger).stdout


def test_a_ledger_that_is_not_there_and_one_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read(tmp_path / "none")
    with pytest.raises(OutputError, match="so nothing was"):
        append(tmp_path, [entry(1)])
