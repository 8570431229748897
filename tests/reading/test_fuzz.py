"""2,000 spoiled files: coded errors only, no hang, no crash, no grab for memory, nothing printed, no name that is a path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("memory is limited and measured the Linux way", allow_module_level=True)

from tests.reading.fuzz_worker import MEMORY_MB, SECONDS

JOBS = (("dicom", 0, 500), ("dicom", 500, 1000), ("nifti", 0, 1000), ("zip", 0, 50))


def test_two_thousand_spoiled_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    running = []
    for number, (kind, first, last) in enumerate(JOBS):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = [sys.executable, "-m", "tests.reading.fuzz_worker", folder, kind, first, last]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            running.append((kind, folder, subprocess.Popen([*map(str, words)], stdout=out, stderr=err)))
    wrong, read, loaded = [], 0, 0
    for kind, folder, process in running:
        ended = process.wait(timeout=550)
        lines = [json.loads(line) for line in (folder / "out").read_text().splitlines()]
        again = f"python -m tests.reading.fuzz_worker FOLDER {kind} SEED SEED+1"
        if ended:
            last = lines[-1] if lines else "the start"
            wrong.append(f"{kind}: ended with {ended} at {last} ({again})\n{(folder / 'err').read_text()[-2000:]}")
        for one in (line for line in lines if "seed" in line):
            read += 1
            loaded += "loaded" in one["outcome"]
            if one["wrong"] or one["seconds"] > SECONDS or one["mb"] > MEMORY_MB:
                wrong.append(f"{kind} {one} ({again})")
    assert not wrong, f"{len(wrong)} of {read}:\n" + "\n".join(wrong[:10])
    assert read >= 2000
    assert loaded > read / 10, "what is spoiled must not be so bad that nothing behind the door is tried"
