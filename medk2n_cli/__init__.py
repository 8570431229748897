"""medk2n: synthesise missing MR contrasts with Med-K2N, and say how far to trust them.

    from medk2n_cli import synthesize
    result = synthesize("study/", want="FLAIR")

Importing the package costs nothing; the heavy libraries load with the first call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# Official builds of ONNX Runtime note what is run and send it to their makers, unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from medk2n_cli.pipeline import synthesize

__version__ = "0.1.0"
__all__ = ["__version__", "synthesize"]


def __getattr__(name: str) -> object:
    if name == "synthesize":
        from medk2n_cli.pipeline import synthesize

        return synthesize
    raise AttributeError(f"module 'medk2n_cli' has no attribute '{name}'")
