"""Each pixel over its root mean square along the channels, in the two forms that eager torch and the graph want."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SOFTENING = 1e-2  # added to the mean square: what is near nothing stays near nothing


class PixelLevel(nn.Module):
    """x / sqrt(mean over channels of x^2 + 0.01)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        return x * torch.rsqrt((x * x).mean(1, keepdim=True) + SOFTENING)


class ConvolvedLevel(nn.Module):
    """The same as two constant 1x1 convolutions, for the graph.

    ONNX Runtime keeps the channels of a convolution interleaved; a mean over channels makes it shuffle every feature
    map there and back. Mean and copies written as convolutions leave them where they are.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 1 / channels))
        self.register_buffer("spread", torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, c, h, w)."""
        return x * F.conv2d(torch.rsqrt(F.conv2d(x * x, self.mean) + SOFTENING), self.spread)


def convolve_levels(network: nn.Module) -> None:
    """Replace every `PixelLevel` inside `network` by its `ConvolvedLevel`."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, PixelLevel):
                setattr(module, name, ConvolvedLevel(child.channels))
