"""python -m tests.reading.fuzz_worker FOLDER KIND FIRST LAST: spoils files and reads them, one JSON line each.

A process of its own, with a memory limit, so that a crash, a hang and a grab for memory are seen from outside.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
import zipfile
from pathlib import Path

import numpy as np

from medk2n_cli.core.errors import Medk2nError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.reading.studies import find_studies
from tests.reading import fuzz_dicom, fuzz_nifti

SECONDS, MEMORY_MB = 10, 1024


def main(folder: Path, kind: str, first: int, last: int) -> None:
    warnings.simplefilter("error")
    series = list(fuzz_dicom.make_seeds(folder / "seeds").values()) if kind != "nifti" else []
    nifti = fuzz_nifti.make_seed()
    _limit_memory()
    for seed in range(first, last):
        rng = np.random.default_rng([seed, len(kind)])
        place = folder / "case"
        place.mkdir()
        print(json.dumps({"start": seed}), flush=True)
        if kind == "zip":
            done = _zipped(place, series, nifti, rng)
        elif kind == "dicom":
            files, done = fuzz_dicom.mutated(series[int(rng.integers(len(series)))], rng)
            for number, raw in enumerate(files):
                (place / f"IM{number}").write_bytes(raw)
        else:
            done = fuzz_nifti.write_mutated(place, nifti, rng)
        print(json.dumps({"seed": seed, "done": done, **examine(place)}), flush=True)
        shutil.rmtree(place)


def examine(place: Path) -> dict[str, object]:
    """What came of reading it: outcome, what was wrong with that, seconds and MB above the start."""
    before, started, printed = _peak_mb(), time.perf_counter(), _printed()
    signal.alarm(SECONDS)  # its default action ends the process, wherever it hangs
    try:
        outcome, wrong = _read(place)
    except Exception:  # noqa: BLE001 - that is what is looked for
        outcome, wrong = "crash", [traceback.format_exc()]
    signal.alarm(0)
    if _printed() != printed:
        wrong.append("something was printed to stderr")
    seconds, grown = round(time.perf_counter() - started, 3), round(_peak_mb() - before, 1)
    return {"outcome": outcome, "wrong": wrong, "seconds": seconds, "mb": grown}


def _zipped(place: Path, series: list[list[fuzz_dicom.File]], nifti: bytes, rng: np.random.Generator) -> str:
    """An archive of good files with a few bytes wrong."""
    how = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[int(rng.integers(4))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as packed:
        packed.writestr("T1.nii", nifti)
        for number, file in enumerate(series[int(rng.integers(len(series)))]):
            packed.writestr(f"IM{number}", file.encoded())
    raw = bytearray(buffer.getvalue())
    for at in rng.integers(0, len(raw), size=int(rng.choice([1, 8, 200]))):
        raw[at] ^= 1 << int(rng.integers(8))
    (place / "study.zip").write_bytes(raw[: int(rng.integers(len(raw)))] if rng.random() < 0.2 else raw)
    return f"zip of type {how}"


def _read(place: Path) -> tuple[str, list[str]]:
    if not (place / "study.zip").exists():
        return _read_folder(place)
    try:
        with unpacked([place / "study.zip"]) as (folder,):
            return _read_folder(folder)
    except Medk2nError as failure:
        return failure.code, _check_error(failure)


def _read_folder(place: Path) -> tuple[str, list[str]]:
    study, wrong = scan([place]), []
    outcomes = []
    for name in {s.name for s in find_studies(place)}:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
            wrong.append(f"a result folder would be called {name!r}")
    for one in study.series:
        wrong += _check_series(one)
        outcomes.append(one.code or "used")
        if one.grid is not None:
            outcomes.append(_loaded(Study(place, (one,)), one, wrong))
    try:
        study.chosen()
    except Medk2nError as failure:
        wrong += _check_error(failure)
    return "+".join(outcomes) or "nothing", wrong


def _loaded(study: Study, one: Series, wrong: list[str]) -> str:
    try:
        (volume,) = load({Modality.T1: one}).values()
    except Medk2nError as failure:
        wrong += _check_error(failure)
        return failure.code
    if not np.isfinite(volume.array).all():
        wrong.append("voxels that are no numbers")
    return "loaded"


def _check_series(one: Series) -> list[str]:
    wrong = []
    for text in (one.label, one.unused or "", one.evidence, *one.notes):
        if not text.isprintable() or len(text) > 400:
            wrong.append(f"not fit to print: {text[:100]!r}")
        if "MemoryError" in text:
            wrong.append(f"memory ran out: {text}")
    if one.unused is not None and not one.code:
        wrong.append("refused without a code")
    return wrong


def _check_error(failure: Medk2nError) -> list[str]:
    wrong = []
    if not failure.code or failure.code == "StudyError" or not failure.next_step:
        wrong.append(f"not a coded error: {failure}")
    if not failure.problem.isprintable() or not failure.next_step.isprintable() or len(failure.problem) > 700:
        wrong.append(f"not fit to print: {failure.problem[:200]!r} {failure.next_step[:200]!r}")
    cause = failure.__cause__
    while cause is not None:
        if isinstance(cause, MemoryError) or re.search("bad_alloc|allocate memory|memory alloc", str(cause)):
            wrong.append(f"memory ran out: {cause!r}"[:300])
        cause = cause.__cause__ or cause.__context__
    return wrong


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (MEMORY_MB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _printed() -> int:
    return os.fstat(2).st_size


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
