"""What Med-K2N is measured against, trained by the same recipe: average fusion (c) and MM-Synthesis (d) of method.md."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medk2n_cli.training.network import Fusion, MedK2N, Size

_LATENT, _WIDTH = 16, 32


class AverageFusion(MedK2N):
    """(c) The same network without quality gates: every auxiliary enters with the same weight 1 / (K - 1), everywhere.

    What remains of the vector part (gates, weights, attention maps) has no influence and is not trained.
    """

    gated = False

    def fuse_weights(
        self, images: Tensor, features: list[Tensor], have: Tensor, want: Tensor, key: Tensor, override: Tensor
    ) -> Fusion:
        """Gates open and weights equal, whatever `override` asks."""
        decided = super().fuse_weights(images, features, have, want, key, override)
        share = torch.full_like(decided.w_eff, 1.0 / max(1, have.shape[0] - 1))
        return decided._replace(gate=torch.ones_like(share), w_eff=share)

    def fuse(self, features: list[Tensor], fusion: Fusion, key: Tensor, task: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The key frame's features and the plain mean of the auxiliaries' at each scale."""
        applied = (fusion.gate * fusion.w_eff * (1 - fusion.key))[..., None, None, None]
        bases = [f.index_select(1, key).flatten(0, 1) for f in features]
        return bases, [(applied * f[:, None]).sum(2).flatten(0, 1) for f in features]


class MMSynthesis(nn.Module):
    """(d) Chartsias et al., IEEE TMI 2018: one encoder per modality, latents fused by their maximum, one decoder per target."""

    gated = False

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.encoders = nn.ModuleList(_LatentEncoder(size.neighbours) for _ in range(size.slots))
        self.decoders = nn.ModuleList(_LatentDecoder() for _ in range(size.slots))

    def latents(self, images: Tensor, have: Tensor) -> Tensor:
        """images (S, K, C, H, W) -> (S, K, 16, H, W)."""
        each = [self.encoders[slot](images[:, k]) for k, slot in enumerate(have.tolist())]
        return torch.stack(each, 1)

    def decode(self, latent: Tensor, want: Tensor) -> Tensor:
        """(S, 16, H, W) -> (S, N, H, W)."""
        return torch.cat([self.decoders[slot](latent) for slot in want.tolist()], 1)

    def forward(self, images: Tensor, have: Tensor, want: Tensor) -> Tensor:
        """images (S, K, C, H, W), have (K), want (N) -> (S, N, H, W)."""
        return self.decode(self.latents(images, have).amax(1), want)

    def losses(self, images: Tensor, have: Tensor, want: Tensor, truth: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The paper's three: every latent alone must do, their maximum must do, and they must agree."""
        latents = self.latents(images, have)
        each = torch.stack([self.decode(latents[:, k], want) for k in range(latents.shape[1])], 1)
        inside, total = weight[:, None], weight.sum() * want.shape[0]
        terms = {"single": ((each - truth[:, None]).abs() * inside[:, None]).sum() / (total * each.shape[1])}
        if latents.shape[1] > 1:
            terms["fused"] = ((self.decode(latents.amax(1), want) - truth).abs() * inside).sum() / total
            terms["agree"] = 0.1 * latents.var(1, unbiased=False).mean()
        return terms


class _LatentEncoder(nn.Module):
    """A small U: full and half resolution, one skip; (B, C, H, W) -> (B, 16, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        w = _WIDTH
        self.fine = nn.Sequential(_conv(channels, w), _conv(w, w))
        self.coarse = nn.Sequential(_conv(w, 2 * w), _conv(2 * w, w))
        self.join = nn.Sequential(_conv(2 * w, w), nn.Conv2d(w, _LATENT, 3, padding=1), nn.LeakyReLU(0.01))

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        coarse = F.interpolate(self.coarse(F.max_pool2d(fine, 2)), scale_factor=2.0, mode="nearest")
        latent: Tensor = self.join(torch.cat([fine, coarse], 1))
        return latent


class _LatentDecoder(nn.Module):
    """(B, 16, H, W) -> (B, 1, H, W), linear at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = _conv(_LATENT, _WIDTH), nn.Sequential(_conv(_WIDTH, _WIDTH), _conv(_WIDTH, _WIDTH))
        self.out = nn.Conv2d(_WIDTH, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.first(latent)
        image: Tensor = self.out(x + self.inner(x))
        return image


def _conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.01))
