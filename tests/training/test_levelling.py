"""A feature map levelled in eager torch and the same one levelled in the graph."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from torch import nn  # noqa: E402

from medk2n_cli.training.levelling import ConvolvedLevel, PixelLevel, convolve_levels  # noqa: E402
from medk2n_cli.training.network import SIZES, Block, MedK2N  # noqa: E402


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_both_forms_give_the_same_from_darkness_to_glare(scale: float) -> None:
    x = scale * torch.randn((2, 24, 5, 7), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ConvolvedLevel(24)(x), PixelLevel(24)(x), rtol=1e-5, atol=1e-6)


def test_a_bright_pixel_leaves_with_a_mean_square_of_one() -> None:
    levelled = PixelLevel(24)(100 * torch.randn((1, 24, 3, 3), generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close((levelled**2).mean(1), torch.ones(1, 3, 3), rtol=1e-4, atol=1e-4)


def test_every_block_of_the_network_is_convolved_and_none_of_its_weights_touched() -> None:
    network = MedK2N(SIZES["small"], torch.randn(6, 384))
    weights = {n: p.clone() for n, p in network.named_parameters()}
    convolve_levels(nn.Sequential(network))
    blocks = [m for m in network.modules() if isinstance(m, Block)]
    assert blocks
    assert all(isinstance(b.level, ConvolvedLevel) for b in blocks)
    assert all(torch.equal(p, weights[n]) for n, p in network.named_parameters())
