"""Reading, computing and writing of different studies at the same time, so that the network never waits for a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Computed = TypeVar("Computed")


@dataclass(frozen=True)
class Steps(Generic[Item, Begun, Computed]):
    """What is done with each item. No step raises but for a stop: what fails is the step's own business to tell.

    Attributes:
        begin: reads one; in a thread of its own.
        compute: the network; always in the calling thread, one at a time.
        end: writes one; in a thread of its own, one at a time.
        discard: lets go of one that was begun and will not be ended.
        halt: called first on a stop: whatever a reader waits for must let it go on.
    """

    begin: Callable[[Item], Begun]
    compute: Callable[[Begun], Computed]
    end: Callable[[Computed], None]
    discard: Callable[[Begun], None]
    halt: Callable[[], None]


def overlapped(items: Iterable[Item], steps: Steps[Item, Begun, Computed], jobs: int = 1) -> None:
    """Take every item through the steps, in order; `jobs` are read while one is computed, and as many wait to be written.

    With 0 jobs the next item is only asked for when the one before was computed: for items that are still to come.
    A stop (KeyboardInterrupt) in the calling thread discards what was only read, lets what is being written end, and goes on up.
    """
    source = iter(items)
    readers, writer = ThreadPoolExecutor(max(1, jobs), "read"), ThreadPoolExecutor(1, "write")
    ahead: deque[Future[Begun]] = deque()
    behind: deque[Future[None]] = deque()

    def read(count: int) -> None:
        ahead.extend(readers.submit(steps.begin, i) for i in islice(source, count))

    try:
        read(1)
        while ahead:
            read(jobs + 1 - len(ahead))
            computed = steps.compute(ahead[0].result())
            ahead.popleft()  # only now: until here a stop has to find it
            behind.append(writer.submit(steps.end, computed))
            while behind and (behind[0].done() or len(behind) > max(1, jobs)):
                behind.popleft().result()
            if not ahead:
                read(1)
        for last in behind:
            last.result()
    finally:
        steps.halt()
        _stop(readers, ahead, steps.discard)
        writer.shutdown(wait=True)


def _stop(readers: ThreadPoolExecutor, ahead: Iterable[Future[Begun]], discard: Callable[[Begun], None]) -> None:
    readers.shutdown(wait=True, cancel_futures=True)
    for future in ahead:
        if not future.cancelled():
            with suppress(Exception):
                discard(future.result())
