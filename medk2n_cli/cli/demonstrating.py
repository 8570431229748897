"""`medk2n demo`: the main job on a study that came with the program."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from medk2n_cli.cli.synthesising import Machine, Output, Talk, synthesise_to_folder
from medk2n_cli.cli.tables import console
from medk2n_cli.core.errors import OutputError
from medk2n_cli.pipeline import Request
from medk2n_cli.writing.folder import unwritable

_SOURCES = ("T1.nii.gz", "T2.nii.gz", "simulation.json")


def run_demo(out: Path, overwrite: bool, talk: Talk) -> dict[str, Any]:
    """``out/study`` is written (simulated T1 and T2), ``out/result`` synthesised from it.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    study = out / "study"
    try:
        if (out.exists() and not out.is_dir()) or (study.exists() and not overwrite):
            raise OutputError(f"{out} exists already.", next_step="Give another --out, or --overwrite.", code="OUT_NOT_EMPTY")
        if study.exists() and any(study.iterdir()) and not (study / _SOURCES[-1]).exists():
            raise OutputError(f"{study} holds something else than a demo.", next_step="Give another --out.", code="FOREIGN_FILES")
        study.mkdir(parents=True, exist_ok=True)
        for name in _SOURCES:
            (study / name).write_bytes((files("medk2n_cli") / "_demo" / name).read_bytes())
    except OSError as failure:
        raise unwritable(out, failure) from failure
    data = synthesise_to_folder(Request((study,)), Output(out / "result", overwrite), Machine(), talk)
    if not talk.quiet:
        console().print(f"the simulated study is in {study}; look at both folders with any NIfTI viewer", markup=False)
    return {"study": str(study), **data}
