"""Silence while a library looks at a file: what is wrong with it is said once, by us, and without the patient."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from medk2n_cli.core.quiet import warnings_as

_STDERR = 2
_one_at_a_time = threading.Lock()  # two that put the same descriptor aside would never find it again


@contextmanager
def unwarned() -> Iterator[None]:
    """No Python warnings: pydicom's cite the value they complain of, which may be a name."""
    with warnings_as("ignore"), np.errstate(all="ignore"):
        yield


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing on stderr either: the C libraries below ITK print there and return."""
    with _one_at_a_time, unwarned():
        try:
            kept = os.dup(_STDERR)
        except OSError:  # a service without stderr has nothing to hush
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), _STDERR)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
