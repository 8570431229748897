"""A site's defaults: which of file, variable and command line wins, what is said of mistakes, and what is never shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from medk2n_cli.cli.app import app
from medk2n_cli.cli.settings import default_map, options_of, said_of_variables, settings
from medk2n_cli.core.errors import RequestError
from tests.conftest import TINY

KNOWN = options_of(typer.main.get_command(app))


def value(command: str, option: str, environment: dict[str, str], here: Path) -> tuple[object, str]:
    found = settings(KNOWN, {"XDG_CONFIG_HOME": str(here / "none"), **environment}, here)
    held = found.get((command, option))
    return (held.value, held.whence) if held else (None, "")


def test_the_nearer_word_wins(tmp_path: Path) -> None:
    file = tmp_path / "medk2n.toml"
    file.write_text('weights = "shared"\nmax-memory = "3G"\n[batch]\nweights = "of batch"\njobs = 4\n')
    assert value("synthesize", "weights", {}, tmp_path) == ("shared", str(file))
    assert value("batch", "weights", {}, tmp_path) == ("of batch", f"{file} [batch]")
    assert value("audit", "max_memory", {}, tmp_path) == (None, ""), "only commands that have it take it"
    assert value("batch", "weights", {"MEDK2N_WEIGHTS": "v"}, tmp_path) == ("v", "MEDK2N_WEIGHTS")
    both = {"MEDK2N_WEIGHTS": "v", "MEDK2N_BATCH_WEIGHTS": "w"}
    assert value("batch", "weights", both, tmp_path) == ("w", "MEDK2N_BATCH_WEIGHTS")
    assert value("synthesize", "weights", both, tmp_path) == ("v", "MEDK2N_WEIGHTS")


def test_what_belongs_to_one_run_is_shared_by_none(tmp_path: Path) -> None:
    assert value("synthesize", "out", {"MEDK2N_OUT": "x"}, tmp_path) == (None, "")
    assert value("synthesize", "out", {"MEDK2N_SYNTHESIZE_OUT": "x"}, tmp_path) == ("x", "MEDK2N_SYNTHESIZE_OUT")
    assert value("ledger", "weights", {"MEDK2N_WEIGHTS": "x"}, tmp_path) == (None, ""), "a recall is not narrowed by accident"
    (tmp_path / "medk2n.toml").write_text('out = "x"\n')
    with pytest.raises(RequestError, match="sets out, which no command has, or which must stand below"):
        value("synthesize", "out", {}, tmp_path)


def test_a_variable_that_sets_nothing_is_said(tmp_path: Path) -> None:
    names = ("MEDK2N_CONFIG", "MEDK2N_WEIGHTS_DIR", "MEDK2N_WEIGHTS_PULL_SHA256", "MEDK2N_JOBS", "HOME")
    good = dict.fromkeys(names, "x")
    assert said_of_variables(KNOWN, good) == []
    assert said_of_variables(KNOWN, {"MEDK2N_MAX_MEMRY": ""}) == [
        "MEDK2N_MAX_MEMRY sets nothing; did you mean MEDK2N_MAX_MEMORY?"
    ]
    assert said_of_variables(KNOWN, {"MEDK2N_OUT": "x"})[0].startswith("MEDK2N_OUT sets nothing; did you mean MEDK2N_")
    assert said_of_variables(KNOWN, {"MEDK2N_SHARED": "", "MEDK2N_HOST": ""}) == [], "a site's own"


def test_the_file_that_holds_is_the_named_one_else_the_nearest(tmp_path: Path) -> None:
    far, near = tmp_path / "home" / "medk2n", tmp_path / "here"
    for folder, device in ((far, "cuda"), (near, "cpu"), (tmp_path, "cuda:1")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "medk2n.toml").write_text(f'device = "{device}"\n')
    home = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert value("scan", "device", home, near) == (None, "")
    assert value("batch", "device", home, near)[0] == "cpu"
    assert value("batch", "device", home, tmp_path / "home")[0] == "cuda"
    assert value("batch", "device", {**home, "MEDK2N_CONFIG": str(tmp_path / "medk2n.toml")}, near)[0] == "cuda:1"
    for none in ("", "none"):  # Windows has no empty variables
        assert value("batch", "device", {**home, "MEDK2N_CONFIG": none}, near) == (None, "")
    with pytest.raises(RequestError, match="no file"):
        value("batch", "device", {"MEDK2N_CONFIG": str(tmp_path / "gone")}, near)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("weights = ", "cannot be read"),
        ("wieghts = 'x'", "sets wieghts, which no command has"),
        ("[batch]\nfast = true", r"sets \[batch\] fast, which does not exist"),
        ("[bach]\njobs = 1", r"sets \[bach\] jobs, which does not exist"),
        ("[weights.pull]\nfast = 1", r"sets \[weights pull\] fast"),
    ],
)
def test_a_misspelt_setting_is_told_and_never_passed_over(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "medk2n.toml").write_text(text)
    with pytest.raises(RequestError, match=told):
        value("batch", "jobs", {}, tmp_path)


def test_commands_below_commands_and_repeated_options_are_reached(tmp_path: Path) -> None:
    (tmp_path / "medk2n.toml").write_text('[weights.export]\nout = "w.zip"\n[synthesize]\nuse = ["T1=a b", "T2=c"]\n')
    found = settings(KNOWN, {"MEDK2N_AUDIT_USE": "T1=x y;T2=z", "XDG_CONFIG_HOME": str(tmp_path)}, tmp_path)
    made = default_map(found, KNOWN)
    assert made["weights"]["export"]["out"] == "w.zip"
    assert made["synthesize"]["use"] == ["T1=a b", "T2=c"]
    assert made["audit"]["use"] == ["T1=x y", "T2=z"]


def medk2n(here: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "medk2n_cli", *map(str, words)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": root, "XDG_CONFIG_HOME": str(here / "none"), **environment},
        capture_output=True,
        text=True,
    )


def test_a_real_run_obeys_and_config_says_whence(tmp_path: Path, head_study: Path) -> None:
    (tmp_path / "medk2n.toml").write_text(f'weights = "{TINY.as_posix()}"\ndeid = true\n[synthesize]\nwant = "FLAIR"\n')
    done = medk2n(tmp_path, "synthesize", "--in", head_study, "--out", "o", MEDK2N_GRID="T2")
    assert done.returncode == 0, done.stderr
    assert "medk2n.toml of this folder sets --deid, --want, --weights" in done.stderr  # it may have come with an export
    manifest = json.loads((tmp_path / "o" / "result.json").read_text())
    assert manifest["weights"]["name"] == "tiny"
    assert manifest["options"]["want"] == ["FLAIR"]
    assert manifest["options"]["grid"] == "T2"
    assert manifest["output"]["deidentified"] is True
    again = medk2n(tmp_path, "synthesize", "--in", head_study, "--out", "o2", "--want", "ADC", "--grid", "T1", MEDK2N_GRID="T2")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "o2" / "result.json").read_text())["options"]["grid"] == "T1"
    told = json.loads(medk2n(tmp_path, "config", "--json", MEDK2N_GRID="T2").stdout)["data"]
    by = {(o["command"], o["option"]): (o["value"], o["from"]) for o in told["options"]}
    assert by["synthesize", "grid"] == ("T2", "MEDK2N_GRID")
    assert by["synthesize", "want"] == ("FLAIR", f"{tmp_path / 'medk2n.toml'} [synthesize]")
    assert by["batch", "want"] == ("missing", "built in")
    assert by["batch", "in"] == (None, "required")
    assert "MEDK2N_GRID" in medk2n(tmp_path, "config", MEDK2N_GRID="T2").stdout


def test_a_file_of_the_site_is_obeyed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "none" / "medk2n").mkdir(parents=True)
    (tmp_path / "none" / "medk2n" / "medk2n.toml").write_text("deid = true\n")
    told = medk2n(tmp_path, "config", "--json")
    assert ["synthesize", "deid", True] in [
        [o["command"], o["option"], o["value"]] for o in json.loads(told.stdout)["data"]["options"]
    ]
    assert "of this folder" not in medk2n(tmp_path, "synthesize", "--in", tmp_path).stderr
    (tmp_path / "medk2n.toml").write_text("deid = true\n")
    assert "of this folder" in medk2n(tmp_path, "synthesize", "--in", tmp_path).stderr
    named = str(tmp_path / "medk2n.toml")
    assert "of this folder" not in medk2n(tmp_path, "synthesize", "--in", tmp_path, MEDK2N_CONFIG=named).stderr


def test_a_wrong_value_is_told_as_on_the_command_line(tmp_path: Path) -> None:
    told = medk2n(tmp_path, "batch", "--in", ".", "--out", "o", MEDK2N_JOBS="many")
    assert told.returncode == 2
    assert "--jobs" in told.stderr
    (tmp_path / "medk2n.toml").write_text("x = 1")
    bad = medk2n(tmp_path, "config", "--json")
    assert bad.returncode == 4
    assert json.loads(bad.stdout)["errors"][0]["code"] == "BAD_CONFIG"
    assert medk2n(tmp_path, "config", MEDK2N_CONFIG="").returncode == 0
