"""The whole round with a real PACS on loopback: store, export, synthesise, send back, find, fetch, compare."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medk2n_cli.core.modality import Modality
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

pytestmark = pytest.mark.pacs
ORTHANC = shutil.which("Orthanc") or shutil.which("orthanc", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Pacs:
    http: int
    dicom: int

    @property
    def peer(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.dicom}"

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", data=body, timeout=60) as answer:
            return bytes(answer.read())

    def json(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - whatever JSON holds
        return json.loads(self.ask(path, None if body is None else json.dumps(body).encode()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    if ORTHANC is None:
        pytest.skip("Orthanc is not installed (Debian: orthanc)")
    folder, one = tmp_path_factory.mktemp("orthanc"), Pacs(free_port(), free_port())
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": [],
        "HttpPort": one.http,
        "DicomPort": one.dicom,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(150):
            try:
                one.ask("/system")
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("Orthanc did not start: " + (folder / "log").read_text()[-2000:])
        yield one
    finally:
        server.terminate()
        server.wait(20)


def test_a_study_goes_round_through_a_pacs(pacs: Pacs, tmp_path: Path) -> None:
    made = dicoms.write_study(tmp_path / "scanner", (Modality.T1, Modality.T2), phantom.axial((2, 2, 6)))
    for file in made.iterdir():
        assert json.loads(pacs.ask("/instances", file.read_bytes()))["Status"] == "Success"
    (study,) = pacs.json("/studies")
    (tmp_path / "export.zip").write_bytes(pacs.ask(f"/studies/{study}/archive"))

    out = tmp_path / "result"
    done = medk2n(
        *("synthesize", "--in", tmp_path / "export.zip", "--want", "FLAIR", "--out", out, "--weights", TINY, "--format", "both"),
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    verified = medk2n("verify", out, "--json")
    assert verified.returncode == 0, verified.stderr

    for _ in range(2):  # a resend is harmless
        sent = medk2n("send", out, "--to", pacs.peer, "--json")
        assert sent.returncode == 0, sent.stderr
        answer = json.loads(sent.stdout)["data"]
        assert {o["answer"] for o in answer["objects"]} == {"stored"}
    files = sorted((out / "dicom").rglob("*.dcm"))
    assert answer["sent"] == len(files)

    assert pacs.json("/studies") == [study], "the result is filed under the patient's own study"
    uids = {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in files}
    query = {"Level": "Series", "Query": {"SeriesDescription": "SYNTH FLAIR*"}, "Expand": True}
    (series,) = pacs.json("/tools/find", query)
    assert series["ParentStudy"] == study
    assert series["MainDicomTags"]["Manufacturer"] == "medk2n"
    (report,) = pacs.json("/tools/find", {"Level": "Series", "Query": {"Modality": "SR"}, "Expand": True})
    assert report["ParentStudy"] == study

    fetched = {}
    for instance in (*series["Instances"], *report["Instances"]):
        stored = tmp_path / instance
        stored.write_bytes(pacs.ask(f"/instances/{instance}/file"))
        one = pydicom.dcmread(stored)
        assert one.SyntheticData == "YES"
        fetched[one.SOPInstanceUID] = one
    assert set(fetched) == uids
    for file in files:
        ours = pydicom.dcmread(file)
        if "PixelData" in ours:
            assert np.array_equal(fetched[ours.SOPInstanceUID].pixel_array, ours.pixel_array)


def test_a_result_that_was_touched_is_not_sent(pacs: Pacs, tmp_path: Path) -> None:
    made = dicoms.write_study(tmp_path / "scanner", (Modality.T1,), phantom.axial((4, 4, 8)))
    out = tmp_path / "result"
    done = medk2n("synthesize", "--in", made, "--want", "T2", "--out", out, "--weights", TINY, "--quiet")
    assert done.returncode == 0, done.stderr
    before = pacs.json("/statistics")["CountInstances"]
    file = next((out / "dicom").rglob("synth_T2_0003.dcm"))
    file.write_bytes(file.read_bytes()[:-2] + b"\x01\x01")
    sent = medk2n("send", out, "--to", pacs.peer, "--json")
    assert failed(sent, 6)["code"] == "VERIFY_FAILED"
    assert pacs.json("/statistics")["CountInstances"] == before


def test_a_wrong_title_is_an_error(pacs: Pacs, tmp_path: Path) -> None:
    made = dicoms.write_study(tmp_path / "scanner", (Modality.T1,), phantom.axial((4, 4, 8)))
    out = tmp_path / "result"
    assert medk2n("synthesize", "--in", made, "--want", "T2", "--out", out, "--weights", TINY, "--quiet").returncode == 0
    sent = medk2n("send", out, "--to", pacs.peer.replace("ORTHANC", "NOBODY"), "--json")
    assert failed(sent, 6)["code"] == "PACS_REJECTED"
