"""A folder that studies keep arriving in: which of them are whole, and which are still being copied."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Arriving(Protocol):
    """A study: its name and its files."""

    @property
    def name(self) -> str:
        """Unique in the inbox."""

    @property
    def where(self) -> tuple[Path, ...]:
        """Its files."""


Study = TypeVar("Study", bound=Arriving)
Print = tuple[tuple[str, int, int], ...]  # file, bytes, time of change


@dataclass
class Inbox(Generic[Study]):
    """Studies of `root` that have not changed for `settle` seconds, each once for every state it settles in.

    A study that goes on growing after it was taken is handed out again when it has settled: a copy that stalled longer than
    `settle` costs a second run, never a lost slice.
    """

    root: Path
    find: Callable[[Path], Sequence[Study]]
    settle: float
    poll: float = 2.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _since: dict[str, tuple[Print, float]] = field(default_factory=dict)
    _taken: dict[str, Print] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Study]:
        """Without end; a stop comes from outside."""
        before: Print | None = None
        while True:
            now = fingerprint(_below(self.root))
            if now != before or self._waiting():
                yield from self.settled(self.find(self.root))
                before = now
            self.sleep(self.poll)

    def settled(self, studies: Iterable[Study]) -> list[Study]:
        """Those that have been still long enough and were not handed out as they are."""
        ready, here = [], list(studies)
        for gone in set(self._since) - {s.name for s in here}:
            del self._since[gone]
            self._taken.pop(gone, None)
        for study in here:
            now, at = fingerprint(study.where), self.clock()
            seen, since = self._since.get(study.name, (None, at))
            if seen != now:
                self._since[study.name] = (now, at)
            elif at - since >= self.settle and self._taken.get(study.name) != now:
                self._taken[study.name] = now
                ready.append(study)
        return ready

    def _waiting(self) -> bool:
        return any(self._taken.get(name) != seen for name, (seen, _) in self._since.items())


def fingerprint(files: Iterable[Path]) -> Print:
    """What changes when a file grows, is replaced or comes and goes."""
    found = []
    for file in files:
        try:
            told = file.stat()
        except OSError:  # it went away between listing and looking
            continue
        found.append((str(file), told.st_size, told.st_mtime_ns))
    return tuple(sorted(found))


def _below(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name)
