"""Stages of different studies overlap, in order, and a stop leaves nothing open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from medk2n_cli.batching.memory import Budget
from medk2n_cli.batching.overlap import Steps, overlapped


class Line:
    """Records what happens when; items are numbers."""

    def __init__(self, read_s: float = 0.0, compute_s: float = 0.0, write_s: float = 0.0) -> None:
        self.seconds = (read_s, compute_s, write_s)
        self.events: list[tuple[str, int]] = []
        self.computing = self.overlap = 0
        self.stop_at = -1
        self.lock = threading.Lock()

    def steps(self) -> Steps[int, int, int]:
        return Steps(self.begin, self.compute, self.end, lambda i: self.note("discard", i), lambda: None)

    def note(self, what: str, item: int) -> None:
        with self.lock:
            self.events.append((what, item))

    def begin(self, item: int) -> int:
        self.note("begin", item)
        time.sleep(self.seconds[0])
        return item

    def compute(self, item: int) -> int:
        if item == self.stop_at:
            raise KeyboardInterrupt
        time.sleep(self.seconds[1])
        self.note("computed", item)
        return item

    def end(self, item: int) -> None:
        time.sleep(self.seconds[2])
        self.note("end", item)

    def of(self, what: str) -> list[int]:
        return [item for event, item in self.events if event == what]


@pytest.mark.parametrize("jobs", [0, 1, 2, 4])
def test_every_item_goes_through_every_step_in_order(jobs: int) -> None:
    line = Line()
    overlapped(range(9), line.steps(), jobs)
    assert line.of("computed") == line.of("end") == list(range(9))
    assert sorted(line.of("begin")) == list(range(9))
    assert line.of("discard") == []


def test_the_next_is_read_and_the_last_is_written_while_one_is_computed() -> None:
    line = Line(read_s=0.02, compute_s=0.05, write_s=0.02)
    overlapped(range(6), line.steps())
    order = line.events
    for item in range(1, 5):
        assert order.index(("begin", item + 1)) < order.index(("computed", item)), "it was read before the one before was done"
        assert order.index(("end", item - 1)) < order.index(("computed", item)), "it was written while the next was computed"


def test_nothing_is_read_further_ahead_than_asked() -> None:
    line = Line(compute_s=0.01)
    ahead = []

    def items() -> Iterator[int]:
        for item in range(12):
            ahead.append(item - len(line.of("computed")))
            yield item

    overlapped(items(), line.steps(), 3)
    assert max(ahead) <= 3


def test_a_stop_ends_what_is_being_written_and_discards_what_was_only_read() -> None:
    line = Line(write_s=0.05)
    line.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        overlapped(range(9), line.steps(), 2)
    assert line.of("end") == [0, 1, 2]
    begun = set(line.of("begin"))
    assert begun - set(line.of("end")) == set(line.of("discard")), "whatever was opened was let go of"
    assert 3 in line.of("discard")


def test_a_budget_lets_studies_in_by_their_turn_and_never_more_than_fit() -> None:
    budget, used, peak, order = Budget(100), 0, 0, []
    lock = threading.Lock()

    def work(turn: int, amount: int) -> None:
        nonlocal used, peak
        budget.take(turn, amount)
        with lock:
            order.append(turn)
            used += amount
            peak = max(peak, used)
        time.sleep(0.01)
        with lock:
            used -= amount
        budget.give(amount)

    sizes = [60, 60, 30, 30, 250, 10]  # the fifth alone is more than all: it goes in when nobody else is
    threads = [threading.Thread(target=work, args=pair) for pair in reversed(list(enumerate(sizes)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == list(range(6))
    assert peak == 250
    assert not any(t.is_alive() for t in threads)


def test_studies_that_need_nothing_pass_their_turn_and_a_lifted_budget_holds_nobody() -> None:
    budget = Budget(10)
    budget.take(0, 10)
    budget.skip(1)
    budget.skip(0)  # after take: no harm
    waiting = threading.Thread(target=budget.take, args=(2, 10))
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    budget.lift()
    waiting.join(5)
    assert not waiting.is_alive()


def test_memory_holds_back_reading_but_never_stops_the_line() -> None:
    budget, line = Budget(10), Line()

    def begin(item: int) -> int:
        time.sleep(0.01 * (item % 3))
        budget.take(item, 6)
        return line.begin(item)

    def end(item: int) -> None:
        line.end(item)
        budget.give(6)

    overlapped(range(8), Steps(begin, line.compute, end, lambda i: budget.give(6), budget.lift), 4)
    assert line.of("end") == list(range(8))
