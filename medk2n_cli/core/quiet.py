"""Python's warnings, turned off or into errors, by one thread at a time: their filters belong to the whole process."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# Two threads that each put the filters aside would restore each other's, and leave the process with the wrong ones.
_one_at_a_time = threading.RLock()


@contextmanager
def warnings_as(action: Literal["ignore", "error"]) -> Iterator[None]:
    """No warnings, or each of them an error; as before afterwards."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter(action)
        yield
