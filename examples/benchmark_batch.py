"""What a batch costs beside its inference: `python examples/benchmark_batch.py [--studies 50] [--growth 10,100,1000]`.

Ratios of one run on one machine, side by side; seconds of different machines say nothing. Studies are copies of the
demo's simulated head; the growth test uses a few slices of it. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import SimpleITK as sitk

import medk2n_cli

DEMO = Path(medk2n_cli.__file__).parent / "_demo"
TINY = 5  # slices; of fewer, registration refuses to judge
MEDK2N = (sys.executable, "-m", "medk2n_cli")


def make_studies(folder: Path, count: int, slices: int) -> Path:
    """`count` NIfTI studies, T1 and T2, of the middle `slices` slices of the demo head."""
    images = {m: sitk.ReadImage(str(DEMO / f"{m}.nii.gz")) for m in ("T1", "T2")}
    depth = images["T1"].GetSize()[2]
    first = max(0, (depth - slices) // 2)
    for number in range(count):
        study = folder / f"study_{number:04d}"
        study.mkdir(parents=True)
        for name, image in images.items():
            sitk.WriteImage(image[:, :, first : first + slices], str(study / f"{name}.nii.gz"))
    return folder


def timed(*words: object) -> float:
    started = time.perf_counter()
    subprocess.run([*MEDK2N, *map(str, words)], check=True, capture_output=True)
    return time.perf_counter() - started


def stored(result: Path) -> dict[str, Any]:
    """The manifest of a result folder."""
    manifest: dict[str, Any] = json.loads((result / "result.json").read_text())
    return manifest


def batch(studies: Path, out: Path) -> tuple[float, float, float, int]:
    """(wall, sum of the networks' seconds, peak memory in MB, studies)."""
    wall = timed("batch", "--in", studies, "--out", out, "--want", "FLAIR")
    with (out / "batch.csv").open(newline="") as stream:
        names = [row["study"] for row in csv.DictReader(stream) if row["status"] == "done"]
    results = [stored(out / name) for name in names]
    inference = sum(r["seconds"]["run"] for r in results)
    return wall, inference, max(r["peak_memory_mb"] or 0 for r in results), len(names)


def compare(work: Path, count: int, slices: int) -> None:
    studies = make_studies(work / "studies", count, slices)
    start = _start(work)
    wall, inference, _, done = batch(studies, work / "batch")
    print(f"{done} studies of {slices} slices in one batch: {wall:.1f} s; inference {inference:.1f} s, one start {start:.1f} s")
    print(f"  ratio to inference plus one start: {wall / (inference + start):.2f}, 1 is a network that never waits")
    few = sorted(studies.iterdir())[: min(count, 10)]
    separate = sum(timed("synthesize", "--in", s, "--out", work / "one" / s.name, "--want", "FLAIR", "--quiet") for s in few)
    print(f"  {len(few)} separate processes, per study: {separate / len(few) / (wall / done):.2f} times as long")
    alone = sum(stored(work / "one" / s.name)["seconds"]["run"] for s in few) / len(few)
    print(f"  inference in a process of its own, nothing beside it: {inference / done / alone:.2f} times as fast")


def _start(work: Path) -> float:
    """Seconds until the weights are loaded: a batch of a single study less what the study itself took."""
    single = make_studies(work / "single", 1, TINY)
    wall = timed("batch", "--in", single, "--out", work / "single_out", "--want", "FLAIR")
    return wall - sum(stored(work / "single_out" / "study_0000")["seconds"].values())


def grow(work: Path, counts: list[int]) -> None:
    for count in counts:
        wall, _, memory, done = batch(make_studies(work / f"tiny_{count}", count, TINY), work / f"tiny_{count}_out")
        print(f"{done} tiny studies: {wall / done:.2f} s each, peak memory {memory:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--growth", default="10,100,1000", help="numbers of tiny studies; empty: leave it out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.studies:
            compare(Path(folder), asked.studies, asked.slices)
        grow(Path(folder), [int(n) for n in asked.growth.split(",") if n])


if __name__ == "__main__":
    main()
