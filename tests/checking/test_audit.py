from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.checking.audit import audit
from medk2n_cli.cli import auditing
from medk2n_cli.cli.synthesising import Machine
from medk2n_cli.core.errors import OutputError, RequestError, StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.model.store import Weights
from medk2n_cli.pipeline import Request, open_weights, synthesise
from tests import phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom.write_study(tmp_path_factory.mktemp("s"), (T1, T2, FLAIR), phantom.axial((3, 3, 6)))


def test_each_acquired_modality_is_made_from_the_others_and_compared_with_itself(study: Path, tiny: Weights) -> None:
    done = audit(Request((study,)), open_weights(str(TINY)))
    assert [r.target for r in done.rows] == ["T1", "T2", "FLAIR"]
    for row in done.rows:
        assert row.target not in row.sources + row.refused
        assert len(row.sources + row.refused) == 2
        assert row.r2_windowed >= row.r2 - 1e-6
        assert row.r2_windowed >= -1e-3, "the best gain and offset can always give the mean"
    assert set(done.views.truths) == {T1, T2, FLAIR}
    difference = np.abs(done.views.targets[T2].astype(float) - done.views.truths[T2].astype(float))
    inside = done.views.errors[T2] > 0
    assert np.median(np.abs(difference - done.views.errors[T2])[inside]) < 0.05


def test_the_audit_of_one_is_what_synthesising_it_would_have_given(study: Path) -> None:
    session = open_weights(str(TINY))
    done = audit(Request((study,), (FLAIR,)), session)
    made = synthesise(Request((study,), (FLAIR,), ignore=frozenset({FLAIR})), session)
    assert [r.target for r in done.rows] == ["FLAIR"]
    assert done.rows[0].predicted_ssim == pytest.approx(made.synthesis.report.targets[0].quality, abs=0.02)
    assert {c.source: c.gate for c in done.report.targets[0].contributions} == {
        c.source: c.gate for c in made.synthesis.report.targets[0].contributions
    }


def test_a_disk_that_fills_up_while_the_page_is_written_is_told_as_one(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(auditing, "write_page", full)
    with pytest.raises(OutputError, match="No space left") as failure:
        auditing.audit_studies(Request((study,), (FLAIR,)), tmp_path / "o", Machine(str(TINY)), overwrite=False)
    assert failure.value.code == "CANNOT_WRITE"
    assert not (tmp_path / "o").exists()


def test_the_real_weights_predict_how_good_they_are(open_ms: Path) -> None:
    """On a held-out whole head: every contrast beats the constant, and the predicted SSIM is about the measured one."""
    done = audit(Request((open_ms / "longitudinal_04_study1",)), open_weights())
    for row in done.rows:
        assert row.r2_windowed > 0.4, row
        assert row.predicted_ssim == pytest.approx(row.ssim, abs=0.15), row  # the card tells of a seventh too much
        assert row.looks_like == row.target


def test_one_modality_alone_cannot_be_left_out(tmp_path: Path) -> None:
    phantom.write_study(tmp_path, (T1,), phantom.axial((4, 4, 8)))
    with pytest.raises(StudyError) as failure:
        audit(Request((tmp_path,)), open_weights(str(TINY)))
    assert failure.value.code == "ONE_MODALITY"


def test_what_was_not_acquired_cannot_be_audited(study: Path) -> None:
    with pytest.raises(RequestError) as failure:
        audit(Request((study,), (ADC,)), open_weights(str(TINY)))
    assert failure.value.code == "NOT_ACQUIRED"
    assert "T1,T2,FLAIR" in failure.value.next_step


def test_many_studies_give_one_csv_and_a_bad_one_is_told_at_the_end(study: Path, tmp_path: Path) -> None:
    second = shutil.copytree(study, tmp_path / "second")
    (tmp_path / "bad").mkdir()
    out = tmp_path / "out"
    done = medk2n("audit", "--in", study, "--in", tmp_path / "bad", "--in", second, "--out", out, "--weights", TINY, "--json")
    error = failed(done, 6)
    assert error["code"] == "SOME_FAILED"
    assert "number 2" in error["problem"]
    with (out / "audit.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["study"], r["target"]) for r in rows] == [(n, t) for n in "13" for t in ("T1", "T2", "FLAIR")]
    assert [r for r in rows if r["study"] == "1"] == [{**r, "study": "1"} for r in rows if r["study"] == "3"]
    assert {f.name for f in out.glob("*.html")} == {"audit_001.html", "audit_003.html"}
    assert medk2n("verify", out).returncode == 0
    page = (out / "audit_001.html").read_text()
    assert "not</strong> the error of a contrast that is missing" in page
    assert "Measured absolute error" in page


def test_an_audit_can_come_with_a_synthesis(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    done = medk2n("synthesize", "--in", study, "--want", "ADC", "--out", out, "--weights", TINY, "--audit", "--json")
    assert done.returncode == 0, done.stderr
    assert [r["target"] for r in json.loads(done.stdout)["data"]["audit"]] == ["T1", "T2", "FLAIR"]
    assert "Check on the patient" in (out / "report.html").read_text()
    assert len(json.loads((out / "audit.json").read_text())["rows"]) == 3
