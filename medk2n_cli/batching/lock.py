"""One batch at a time per output folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from medk2n_cli.core.errors import OutputError
from medk2n_cli.writing.folder import unwritable

LOCK = ".medk2n-batch.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder`, which is made where it is missing; the lock goes with its process, however that ends.

    Raises:
        OutputError: LOCKED, another batch writes there; CANNOT_WRITE.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as failure:
        raise unwritable(folder, failure) from failure
    with lock:
        if not seize(lock) or not _still(lock, folder / LOCK):
            raise OutputError(
                f"Another batch is writing to {folder}.",
                next_step="Wait for it, give another --out, or share the work with --part 1/2 --out A and --part 2/2 --out B.",
                code="LOCKED",
            )
        yield
        with suppress(OSError):  # while it is held: who opened it meanwhile finds that it is gone; Windows keeps open files
            (folder / LOCK).unlink()


def seize(lock: IO[str]) -> bool:
    """Lock an open file without waiting; False where another process has it."""
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # a file system without locks holds nobody up
    return True


def _still(lock: IO[str], place: Path) -> bool:
    """Whether the locked file is the one that is there: its last holder removes it."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), place.stat())
    except OSError:
        return False
