"""What the documents promise is run: README commands, examples, help."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.rules import read_rules
from tests import dicoms, phantom
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=240, **options)  # type: ignore[call-overload, no-any-return]


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) < 80


def test_every_command_and_option_in_the_readme_exists() -> None:
    for command in set(re.findall(r"medk2n ([a-z-]+)", README)):
        shown = run(sys.executable, "-m", "medk2n_cli", command, "--help")
        assert shown.returncode == 0, command
    helps = "".join(run(sys.executable, "-m", "medk2n_cli", c, "--help").stdout for c in ("synthesize", "send", "audit", "batch"))
    for option in set(re.findall(r"`(--[a-z]+)", README)):
        assert option in helps, option


def test_the_demo_table_in_the_readme_is_what_the_demo_prints(tmp_path: Path) -> None:
    promised = README.split("<!-- demo table -->")[1].split("<!-- end of demo table -->")[0].strip("`\n ")
    done = run(sys.executable, "-m", "medk2n_cli", "demo", "--out", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("written to")[0]
    assert squeezed(without_numbers(promised)) == squeezed(without_numbers(printed))


def without_numbers(text: str) -> str:
    """Digits differ in the last place between processors; words, gates and roles may not."""
    return re.sub(r"\d+", "0", text)


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_the_python_example_of_the_readme_runs(head_study: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    done = run(sys.executable, "-c", code.group(1).replace('"study/"', repr(str(head_study))))
    assert done.returncode == 0, done.stderr
    assert "'source': 'T1'" in done.stdout


def test_the_examples_run(head_study: Path, tmp_path: Path) -> None:
    done = run(sys.executable, ROOT / "examples" / "python_api.py", head_study)
    assert done.returncode == 0, done.stderr
    assert "FLAIR: predicted SSIM" in done.stdout
    made = run(
        sys.executable,
        "-m",
        "medk2n_cli",
        "synthesize",
        "--in",
        head_study,
        "--out",
        tmp_path / "r",
        "--weights",
        TINY,
        "--quiet",
    )
    assert made.returncode == 0, made.stderr
    done = run(sys.executable, ROOT / "examples" / "read_report.py", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout


def batch(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return shell("pacs_batch.sh", *words, folder=folder)


def shell(script: str, *words: object, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A shell example, with a `medk2n` on its PATH that is the one under test."""
    command = folder / "bin" / "medk2n"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medk2n_cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    return run("bash", ROOT / "examples" / script, *words, env={**environment, **more})


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_batch_example_goes_on_after_a_bad_study_and_keeps_what_is_done(tmp_path: Path) -> None:
    export, out = tmp_path / "export", tmp_path / "out"
    (export / "a_bad").mkdir(parents=True)
    study = dicoms.write_study(tmp_path / "study", (Modality.T1, Modality.T2), phantom.axial((4, 4, 10)))
    shutil.make_archive(str(export / "b_good"), "zip", study)
    (export / "notes.txt").write_text("not a study")
    done = batch(export, out, folder=tmp_path)
    assert done.returncode == 8
    assert "a_bad: not synthesised, exit code 3: error: No NIfTI or DICOM image found" in done.stdout
    assert "b_good: done" in done.stdout
    assert sorted(f.name for f in (out / "b_good" / "dicom").iterdir()) == [
        *(f"synth_{m}" for m in ("ADC", "DWI", "FLAIR", "T1C")),
        "synth_report.dcm",
    ]
    before = (out / "b_good" / "result.json").stat().st_mtime_ns
    (export / "a_bad").rmdir()
    assert batch(export, out, folder=tmp_path).returncode == 0
    assert (out / "b_good" / "result.json").stat().st_mtime_ns == before


@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
def test_the_slurm_and_xargs_examples_share_the_studies_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    for number in range(3):
        phantom.write_study(tmp_path / "export" / f"s{number}", (Modality.T1, Modality.T2), phantom.axial((6, 6, 14)))
    weights = {"MEDK2N_WEIGHTS": str(TINY), "MEDK2N_BATCH_WANT": "FLAIR"}
    done = shell("xargs_parts.sh", tmp_path / "export", tmp_path / "x", 2, folder=tmp_path, **weights)
    assert done.returncode == 0, done.stderr
    for task in "12":  # as sbatch would start them
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        done = shell("slurm_array.sh", tmp_path / "export", tmp_path / "s", folder=tmp_path, **slurm, **weights)
        assert done.returncode == 0, done.stderr
    for out in (tmp_path / "x", tmp_path / "s"):
        made = sorted(f.parent.name for f in out.glob("part_*/*/result.json"))
        assert made == ["s0", "s1", "s2"]
    again = shell("xargs_parts.sh", tmp_path / "export", tmp_path / "x", 2, folder=tmp_path, **weights)
    assert again.stdout.count("unchanged") == 2


def test_the_benchmark_prints_ratios() -> None:
    words = ("--studies", "2", "--slices", "5", "--growth", "2")
    done = run(sys.executable, ROOT / "examples" / "benchmark_batch.py", *words, env={**os.environ, "MEDK2N_WEIGHTS": str(TINY)})
    assert done.returncode == 0, done.stderr
    assert re.search(r"ratio to inference plus one start: \d+\.\d\d", done.stdout)
    assert "2 tiny studies:" in done.stdout


def test_the_page_on_pacs_names_commands_options_and_rules_that_exist(tmp_path: Path) -> None:
    page = (ROOT / "examples" / "pacs_batch.md").read_text(encoding="utf-8")
    for command, options in re.findall(r"^medk2n ((?:weights )?[a-z-]+)(.*)$", page, re.M):
        shown = run(sys.executable, "-m", "medk2n_cli", *command.split(), "--help").stdout
        for option in re.findall(r"--[a-z]+", options):
            assert option in shown, f"{command} {option}"
    rules = re.search(r"```json\n(.*?)```", page, re.S)
    assert rules is not None
    (tmp_path / "rules.json").write_text(rules.group(1))
    assert len(read_rules(tmp_path / "rules.json").rules) == 2


def test_the_model_card_for_people_names_the_shipped_weights() -> None:
    from medk2n_cli.model.store import find

    card = find().card
    text = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    assert card.name in text
    for study in card.training["real_studies"]:  # type: ignore[attr-defined]
        assert study in text, f"{study} was trained on and is not named"
