"""Which processor runs the graph. Never a silent CPU run where CUDA was asked for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from medk2n_cli.core.errors import DeviceError

_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """`name`: cpu or cuda:N; `why`: one line on how it was chosen; `threads`: 0 lets ONNX Runtime decide.

    `may_fall_back`: nobody asked for this GPU, so the CPU may stand in for it, which is then said. `shared`: the cores read and
    write other studies meanwhile, so the network's threads sleep while they wait instead of spinning.
    """

    name: str
    why: str
    threads: int = 0
    may_fall_back: bool = False
    shared: bool = False

    @property
    def is_cuda(self) -> bool:
        """Whether the graph runs on a GPU."""
        return self.name.startswith("cuda")

    @property
    def index(self) -> int:
        """Number of the GPU, 0 for the CPU."""
        return int(self.name.partition(":")[2] or 0)


def choose_device(asked: str = "auto", threads: int = 0) -> Device:
    """`asked` is auto, cpu, cuda or cuda:N.

    Raises:
        DeviceError: CUDA was asked for and cannot be had, or `asked` is none of these.
    """
    if asked == "cpu":
        return Device("cpu", "cpu was asked for", threads)
    missing = cuda_problem()
    if asked == "auto":
        if missing is None:
            return Device("cuda:0", "auto: an NVIDIA GPU is there", threads, may_fall_back=True)
        return Device("cpu", f"auto: {missing}", threads)
    if not re.fullmatch(r"cuda(:\d+)?", asked):
        raise DeviceError(f"'{asked}' is no device.", next_step="Use --device auto, cpu, cuda or cuda:N.", code="UNKNOWN_DEVICE")
    if missing is not None:
        raise DeviceError(
            f"--device {asked}: {missing}.",
            next_step="Use --device cpu, or install the GPU libraries: pip install '.[gpu]' in the checkout of medk2n.",
            code="NO_CUDA",
        )
    return Device(asked if ":" in asked else "cuda:0", f"{asked} was asked for", threads)


def providers() -> list[str]:
    """What this ONNX Runtime was built with."""
    return list(ort.get_available_providers())


def cuda_problem() -> str | None:
    """Why CUDA cannot be used here, or None."""
    if _CUDA not in ort.get_available_providers():
        return "this ONNX Runtime has no CUDA support"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    if os.name == "posix" and not any(Path(p).exists() for p in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")):
        return "no NVIDIA GPU found on this machine"
    return None
