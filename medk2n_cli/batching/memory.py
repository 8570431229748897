"""Several studies in memory at once, but never more than fit."""

from __future__ import annotations

import threading


class Budget:
    """Bytes shared by studies under way; 0 is no limit.

    Studies are let in by their turn (0, 1, 2, ...), for they are computed in that order: a later one that held what an
    earlier one needs would stop both.
    """

    def __init__(self, limit: int = 0) -> None:
        self._limit, self._used, self._turn = limit, 0, 0
        self._passed: set[int] = set()
        self._changed = threading.Condition()

    def take(self, turn: int, amount: int) -> None:
        """Waits for its turn and until `amount` fits; a study alone is let in whatever its size, which others judge."""
        with self._changed:
            self._changed.wait_for(lambda: not self._limit or (turn == self._turn and self._fits(amount)))
            self._used += amount
            self._next(turn)

    def skip(self, turn: int) -> None:
        """A study that needs nothing, or failed before it took any; no harm after `take`."""
        with self._changed:
            self._next(turn)

    def give(self, amount: int) -> None:
        """Hand back what was taken."""
        with self._changed:
            self._used -= amount
            self._changed.notify_all()

    def lift(self) -> None:
        """No limit from now on: whoever waits goes on, since all are about to end."""
        with self._changed:
            self._limit = 0
            self._changed.notify_all()

    def _fits(self, amount: int) -> bool:
        return not self._used or self._used + amount <= self._limit

    def _next(self, turn: int) -> None:
        if turn >= self._turn:
            self._passed.add(turn)
        while self._turn in self._passed:
            self._passed.remove(self._turn)
            self._turn += 1
        self._changed.notify_all()
