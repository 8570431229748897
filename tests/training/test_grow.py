from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.training import checkpoint, network  # noqa: E402
from medk2n_cli.training.grow import as_twin, grow  # noqa: E402
from medk2n_cli.training.network import MedK2N, Size  # noqa: E402
from medk2n_cli.training.text import text_vectors  # noqa: E402
from medk2n_cli.training.twins import AverageFusion  # noqa: E402

SHALLOW = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)
DEEP = replace(SHALLOW, encoder_blocks=(2, 1, 1, 1), decoder_blocks=(3, 2, 1, 1))


def stored(file: Path, size: Size) -> MedK2N:
    """An untrained network of that size, saved as a checkpoint of `small`; live weights are a tenth above the averaged."""
    torch.manual_seed(4)
    made = MedK2N(size, text_vectors())
    state = made.state_dict()
    extra = {f"live.{k}": v + 0.1 for k, v in state.items()} | {"adam.0.step": torch.tensor(3.0)}
    checkpoint.save(file, state, extra, checkpoint.Progress("small", 7, 2.0, ({"steps": 7, "seconds": 2},)))
    return made.eval()


def image(made: MedK2N) -> torch.Tensor:
    images = torch.rand(1, 2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    have, want = torch.tensor([0, 2]), torch.tensor([3])
    with torch.no_grad():
        shown: torch.Tensor = made(images, have, want, torch.full((1, 2), -1.0), torch.full((1,), -1)).synthesised
    return shown


def test_a_deeper_network_starts_with_the_image_of_the_shallow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored(tmp_path / "old", SHALLOW)
    monkeypatch.setitem(network.SIZES, "small", DEEP)
    added = grow(tmp_path / "old", tmp_path / "new")
    after, progress = checkpoint.load_network(tmp_path / "new")
    assert added == 4 * 6, "four blocks of two convolutions and one linear layer, weight and bias"
    assert (progress.step, len(progress.history)) == (7, 1), "its past goes with it"
    assert torch.allclose(image(after), image(before), atol=1e-3)
    tensors = checkpoint.load(tmp_path / "new")[0]
    assert torch.equal(tensors["live.modal"], tensors["ema.modal"] + 0.1), "what was trained stays, averaged and live"
    assert not [k for k in tensors if k.startswith("adam.")]


@pytest.mark.parametrize("now", [SHALLOW, replace(DEEP, widths=(4, 6, 8, 8)), replace(DEEP, memory=4)])
def test_only_missing_blocks_are_added(now: Size, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "old", SHALLOW)
    monkeypatch.setitem(network.SIZES, "small", now)
    with pytest.raises(ValueError, match="lacks nothing but blocks"):
        grow(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_network_does_not_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "old", DEEP)
    monkeypatch.setitem(network.SIZES, "small", SHALLOW)
    with pytest.raises(ValueError, match="lacks nothing but blocks"):
        grow(tmp_path / "old", tmp_path / "new")


def test_the_twin_with_average_fusion_begins_where_the_gated_network_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(network.SIZES, "small", SHALLOW)
    before = stored(tmp_path / "old", SHALLOW)
    as_twin(tmp_path / "old", tmp_path / "twin")
    twin, progress = checkpoint.load_any(tmp_path / "twin")
    assert isinstance(twin, AverageFusion)
    assert (progress.size, progress.step) == ("average", 7)
    assert progress.history[-1]["twin of step"] == 7, "so that nobody takes it for one trained from nothing"
    assert torch.equal(twin.modal, before.modal)
    with pytest.raises(ValueError, match="holds average"):
        as_twin(tmp_path / "twin", tmp_path / "again")
