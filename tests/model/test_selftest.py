from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medk2n_cli.model import selftest
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import Weights, find
from tests.cli.test_commands import medk2n
from tests.conftest import TINY


@pytest.mark.parametrize("which", [None, str(TINY)])
def test_weights_answer_as_they_did_when_they_were_exported(which: str | None) -> None:
    assert selftest.difference(open_session(find(which), choose_device("cpu"))) < selftest.TOLERANCE


def test_another_answer_is_noticed(tiny: Weights) -> None:
    for stored in ((), tuple(v + 0.01 for v in tiny.card.self_test)):
        session = open_session(Weights(tiny.file, replace(tiny.card, self_test=stored)), choose_device("cpu"))
        assert selftest.difference(session) > selftest.TOLERANCE


def test_the_doctor_fits_one_screen_and_finds_this_installation_well(tmp_path: Path) -> None:
    done = medk2n("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(len(line) for line in lines) <= 80
    assert "self-test on cpu" in done.stdout
    answer = json.loads(medk2n("doctor", "--json").stdout)["data"]
    assert all(c["ok"] for c in answer["checks"])
    assert "CPUExecutionProvider" in answer["providers"]
    assert str(Path.home()) not in done.stdout, "nothing of this user"
