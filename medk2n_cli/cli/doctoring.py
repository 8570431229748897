"""`medk2n doctor`: one screen to paste into a bug report."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medk2n_cli import __version__
from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.errors import DeviceError, Medk2nError
from medk2n_cli.model import selftest
from medk2n_cli.model.device import choose_device, cuda_problem, providers
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import find, names

_LIBRARIES = ("numpy", "SimpleITK", "pydicom", "highdicom", "pynetdicom", "onnxruntime-gpu", "onnxruntime", "matplotlib", "typer")


def examine() -> dict[str, Any]:
    """What this machine is, what is installed, whether the weights are whole and answer as they did when they were made."""
    checks = [_runtimes(), _weights(), *(_self_test(d) for d in ["cpu"] + (["cuda"] if cuda_problem() is None else []))]
    return {
        "medk2n": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "packages": {n: v for n in _LIBRARIES if (v := _version(n))},
        "providers": providers(),
        "cuda": cuda_problem() or "an NVIDIA GPU is there",
        "weights": [{"name": n, "sha256": _digest(n)} for n in names()],
        "checks": [{"check": name, "ok": ok, "said": said} for name, ok, said in checks],
    }


def fail_if_ill(data: dict[str, Any]) -> None:
    """A failed check is an error, after everything was shown.

    Raises:
        DeviceError: SELF_TEST, naming the first check that failed.
    """
    bad = [c for c in data["checks"] if not c["ok"]]
    if bad:
        raise DeviceError(
            f"{bad[0]['check']}: {bad[0]['said']}.",
            next_step="Install medk2n again in a fresh virtual environment; report this screen if it stays.",
            code="SELF_TEST",
        )


def show_examination(data: dict[str, Any]) -> None:
    """One screen."""
    rows = [(k, str(data[k])) for k in ("medk2n", "python", "system", "cpus", "memory_gib", "free_disk_gib")]
    rows.append(("packages", ", ".join(f"{n} {v}" for n, v in data["packages"].items())))
    rows += [("providers", ", ".join(data["providers"])), ("cuda", data["cuda"])]
    rows += [("weights", f"{w['name']} {w['sha256'][:12]}") for w in data["weights"]]
    rows += [(("ok: " if c["ok"] else "FAILED: ") + c["check"], c["said"]) for c in data["checks"]]
    console().print(table("", ("what", "is"), rows))


def _runtimes() -> tuple[str, bool, str]:
    both = _version("onnxruntime") and _version("onnxruntime-gpu")
    said = (
        "both onnxruntime and onnxruntime-gpu are installed and overwrite each other: uninstall both, install one"
        if both
        else "one"
    )
    return "ONNX Runtime packages", not both, said


def _weights() -> tuple[str, bool, str]:
    try:
        return "embedded weights", True, f"{find().card.name}, digest as in the card"
    except Medk2nError as failure:
        return "embedded weights", False, failure.problem


def _self_test(device: str) -> tuple[str, bool, str]:
    name = f"self-test on {device}"
    try:
        apart = selftest.difference(open_session(find(), choose_device(device)))
    except Medk2nError as failure:
        return name, False, failure.problem
    good = apart <= selftest.TOLERANCE
    return name, good, f"answers differ by {apart:.1e} from the stored ones, {selftest.TOLERANCE:.0e} is allowed"


def _digest(name: str) -> str:
    try:
        return find(name).card.sha256
    except Medk2nError:
        return "damaged"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _memory_gib() -> float | None:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
