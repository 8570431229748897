"""Files that appear whole or not at all, also when two trainings write the same one at once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A stream whose content takes the place of `file` when the block ends well.

    What a killed process leaves behind has no suffix, so that nobody takes it for a study.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".medk2n-part-") as folder:
        part = Path(folder) / "part"
        with part.open("wb") as stream:
            yield stream
        part.replace(file)
