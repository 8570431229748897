"""What the documents promise is run: README commands, examples, help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    synthesize = run(sys.executable, "-m", "medk2n_cli", "synthesize", "--help").stdout
    for option in set(re.findall(r"`(--[a-z]+)", README)):
        assert option in synthesize, option


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


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_batch_example_goes_on_after_a_bad_study(head_study: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "a_bad").mkdir()
    (export / "b_good").symlink_to(head_study)
    command = tmp_path / "bin" / "medk2n"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medk2n_cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = run("bash", ROOT / "examples" / "many_studies.sh", export, tmp_path / "out", env=environment)
    assert done.returncode == 8
    assert "a_bad failed with exit code 3" in done.stdout
    assert "b_good done" in done.stdout
    assert (tmp_path / "out" / "b_good" / "result.json").exists()


def test_the_model_card_for_people_names_the_shipped_weights() -> None:
    from medk2n_cli.model.store import find

    card = find().card
    text = (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    assert card.name in text
    for study in card.training["real_studies"]:  # type: ignore[attr-defined]
        assert study in text, f"{study} was trained on and is not named"
