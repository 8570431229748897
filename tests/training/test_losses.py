"""The contrast of lesions counts by itself, lesion by lesion."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the training room needs torch")

from medk2n_cli.training import losses  # noqa: E402
from medk2n_cli.training.dataset import LESION_WEIGHT, Batch  # noqa: E402

LARGE, SMALL = (slice(20, 28), slice(30, 38)), (slice(60, 63), slice(60, 63))


def _batch() -> Batch:
    """Two crops, one target: a large lesion in the first, a small one in both, 0.3 above their surroundings."""
    truth, weight = torch.rand(2, 1, 96, 96) * 0.05 + 0.4, torch.ones(2, 96, 96)
    for crop, place in ((0, LARGE), (0, SMALL), (1, SMALL)):
        truth[crop, :, *place] += 0.3
        weight[crop, *place] = LESION_WEIGHT
    return Batch(truth, truth, truth, weight, torch.tensor([0]), torch.tensor([3]))


def _loss(batch: Batch, made: torch.Tensor) -> float:
    return float(losses.contrast_loss(made[:, :, None].expand(-1, -1, 2, -1, -1), batch))


def test_lesions_as_they_are_cost_nothing_however_bright_the_image() -> None:
    batch = _batch()
    assert _loss(batch, batch.truth) == pytest.approx(0, abs=1e-6)
    assert _loss(batch, batch.truth - 0.1) == pytest.approx(0, abs=2e-3)


def test_a_small_lesion_lost_costs_as_much_as_a_large_one() -> None:
    batch = _batch()
    large, small = batch.truth.clone(), batch.truth.clone()
    large[0, :, *LARGE] -= 0.3
    small[0, :, *SMALL] -= 0.3
    assert _loss(batch, large) == pytest.approx(0.1, rel=0.1)  # one of three lesions, 0.3 each
    assert _loss(batch, small) == pytest.approx(_loss(batch, large), rel=0.1)


def test_a_tumour_counts_as_one_lesion() -> None:
    batch = _batch()
    tumour = slice(5, 45), slice(5, 45)
    batch.truth[1, :, *tumour] += 0.3
    batch.weight[1, *tumour] = LESION_WEIGHT
    lost = batch.truth.clone()
    lost[1, :, *tumour] -= 0.3
    assert _loss(batch, lost) == pytest.approx(0.3 / 4, rel=0.1)


def test_a_lesion_made_too_bright_costs_too() -> None:
    batch = _batch()
    bright = batch.truth.clone()
    bright[0, :, *LARGE] += 0.3
    assert _loss(batch, bright) == pytest.approx(0.1, rel=0.1)


def test_crops_without_lesions_and_lesions_without_surroundings_cost_nothing() -> None:
    batch = _batch()
    healthy = Batch(batch.images, batch.strangers, batch.truth, torch.ones(2, 96, 96), batch.have, batch.want)
    everywhere = Batch(batch.images, batch.strangers, batch.truth, torch.full((2, 96, 96), 8.0), batch.have, batch.want)
    assert _loss(healthy, batch.truth * 0) == 0
    assert _loss(everywhere, batch.truth * 0) == 0


def test_the_loss_pulls_a_faded_lesion_up_and_its_rim_down() -> None:
    batch = _batch()
    made = batch.truth.clone()
    made[0, :, *LARGE] -= 0.3
    made = made.requires_grad_()
    losses.contrast_loss(made[:, :, None].expand(-1, -1, 2, -1, -1), batch).backward()
    assert made.grad is not None
    assert (made.grad[0, 0, 22:26, 32:36] < 0).all()  # going downhill raises it
    assert (made.grad[0, 0, 17:20, 30:38] > 0).all()
