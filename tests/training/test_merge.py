from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.training import checkpoint  # noqa: E402
from medk2n_cli.training.merge import merge  # noqa: E402

START = {"steps": 10, "seconds": 5, "seed": 1}


def run(file: Path, value: float, *runs: dict[str, object], size: str = "small") -> Path:
    """A checkpoint of one weight; the averaged one is `value`, the live one ten more."""
    extra = {"live.w": torch.full((2,), value + 10), "adam.0.exp_avg": torch.full((2,), value), "adam.0.step": torch.tensor(3.0)}
    checkpoint.save(file, {"w": torch.full((2,), value)}, extra, checkpoint.Progress(size, 0, 0.0, runs))
    return file


def test_runs_side_by_side_become_their_mean_and_all_their_steps_count(tmp_path: Path) -> None:
    one = run(tmp_path / "1", 1.0, START, {"steps": 4, "seconds": 2, "seed": 2})
    other = run(tmp_path / "2", 4.0, START, {"steps": 6, "seconds": 3, "seed": 3})
    progress = merge([one, other], tmp_path / "both")
    tensors, stored = checkpoint.load(tmp_path / "both")
    assert progress.step == stored.step
    assert (stored.step, stored.seconds, [h["seed"] for h in stored.history]) == (20, 10.0, [1, 2, 3])
    assert {n: v.flatten()[0].item() for n, v in tensors.items()} == {
        "ema.w": 2.5,
        "live.w": 2.5,
        "adam.0.exp_avg": 2.5,
        "adam.0.step": 3.0,
    }


def test_a_run_counts_once_and_is_no_start_of_itself(tmp_path: Path) -> None:
    one = run(tmp_path / "1", 1.0, START, mine := {"steps": 4, "seconds": 2, "seed": 2})
    later = run(tmp_path / "2", 2.0, START, mine, {"steps": 6, "seconds": 3, "seed": 3})
    for files in ([one], [one, one], [one, later]):
        with pytest.raises(ValueError, match="a run of its own"):
            merge(files, tmp_path / "both")


@pytest.mark.parametrize("size, start", [("base", START), ("small", {**START, "seed": 9})])
def test_strangers_are_not_merged(size: str, start: dict[str, object], tmp_path: Path) -> None:
    one = run(tmp_path / "1", 1.0, START, {"steps": 4, "seconds": 2, "seed": 2})
    other = run(tmp_path / "2", 4.0, start, {"steps": 6, "seconds": 3, "seed": 3}, size=size)
    with pytest.raises(ValueError, match="common start"):
        merge([one, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()
