"""An inbox hands out studies that are whole, again when they grew, and never one that is still being copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medk2n_cli.batching.inbox import Inbox


@dataclass(frozen=True)
class Found:
    name: str
    where: tuple[Path, ...]


def find(root: Path) -> list[Found]:
    return [Found(f.name, tuple(sorted(f.iterdir()))) for f in sorted(root.iterdir()) if f.is_dir()]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def put(root: Path, study: str, file: str, content: str = "x") -> None:
    (root / study).mkdir(exist_ok=True)
    (root / study / file).write_text(content)


def test_a_study_is_taken_once_it_is_still_and_again_when_it_grew(tmp_path: Path) -> None:
    clock = Clock()
    inbox = Inbox(tmp_path, find, settle=30, clock=clock)

    def ready(at: float) -> list[str]:
        clock.now = at
        return [s.name for s in inbox.settled(find(tmp_path))]

    put(tmp_path, "a", "1")
    assert ready(0) == []
    put(tmp_path, "a", "2")
    assert ready(20) == [], "it grew"
    put(tmp_path, "b", "1")
    assert ready(40) == []
    assert ready(50) == ["a"]
    assert ready(60) == [], "once"
    assert ready(70) == ["b"]
    put(tmp_path, "a", "3")
    assert ready(100) == []
    put(tmp_path, "a", "3", "longer than before")
    assert ready(129) == []
    assert ready(159) == ["a"], "the stalled copy went on: it is taken as it is now"


def test_watching_sees_what_arrives_and_does_not_look_again_at_a_quiet_folder(tmp_path: Path) -> None:
    clock, looks = Clock(), []

    def counted(root: Path) -> list[Found]:
        looks.append(clock.now)
        return find(root)

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if clock.now == 100:
            put(tmp_path, "late", "1")
        if clock.now > 400:
            raise KeyboardInterrupt

    put(tmp_path, "early", "1")
    taken = []
    try:
        for study in Inbox(tmp_path, counted, settle=10, poll=5, clock=clock, sleep=sleep):
            taken.append((study.name, clock.now))
    except KeyboardInterrupt:
        pass
    assert [name for name, _ in taken] == ["early", "late"]
    assert [at >= 10 and at <= 20 for _, at in taken[:1]] == [True]
    assert 110 <= taken[1][1] <= 120
    assert len(looks) < 12, "headers are read when something changed, or something has yet to settle"
