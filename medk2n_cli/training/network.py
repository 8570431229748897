"""Med-K2N in one file: any K available modalities in, any N wanted ones out, fusion gated by learned thresholds.

Equation numbers are those of Med-K2N (arXiv 2510.02815). Letters: S slices, K available, N wanted, M slots of
the vocabulary, C neighbouring slices, D descriptor width, (H, W) in-plane size, multiples of 16.

Where the equations leave a point open:

* the gate is 1[w_global >= threshold], hard in the graph and straight-through in training; the key frame's is 1;
* auxiliaries are weighed in parallel against the key frame, so the order of the inputs never matters;
* nothing that a closed gate shuts out reaches the output by another way: the target's query and memory see the
  key frame alone, so a rejected input and an absent one give the same image;
* the spiral Mamba of the paper is not part of this network.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medk2n_cli.model.card import INPUTS, OUTPUTS
from medk2n_cli.training.levelling import PixelLevel

GATE_TEMPERATURE = 0.1
BACKGROUND = 0.03  # network scale; below it a pixel counts as outside the head when descriptors are pooled
CMIM_TEMPERATURE = 0.1


@dataclass(frozen=True)
class Size:
    """Widths of the network; `small` is for CPUs, `base` for GPUs."""

    slots: int = 6
    neighbours: int = 3
    widths: tuple[int, int, int, int] = (24, 48, 72, 96)
    encoder_blocks: tuple[int, int, int, int] = (1, 1, 1, 1)  # from fine to coarse, as widths
    decoder_blocks: tuple[int, int, int, int] = (1, 1, 1, 1)
    descriptor: int = 48
    memory: int = 16  # rows of each target's memory bank
    attention: int = 8
    agreement: int = 16

    def to_dict(self) -> dict[str, object]:
        """Plain values, for checkpoint metadata."""
        return asdict(self)


# With one block a level training studies fitted no better than held-out ones; see weights/README.md.
_SMALL = Size(encoder_blocks=(2, 2, 2, 2), decoder_blocks=(3, 3, 2, 2))
_BASE = replace(_SMALL, widths=(64, 128, 192, 256), descriptor=96, memory=32, attention=16, agreement=32)
SIZES = {"small": _SMALL, "base": _BASE}


class Fusion(NamedTuple):
    """Everything the vector part decides, (S, N, K) unless said otherwise."""

    w_global: Tensor
    threshold: Tensor
    gate: Tensor
    w_eff: Tensor
    gain: Tensor
    key: Tensor  # (N, K) one-hot
    memory: Tensor  # (S, N, D)


class Outputs(NamedTuple):
    """What one pass gives; fusion stays over K here and is scattered into slots by `Exported`."""

    synthesised: Tensor  # (S, N, H, W) the chosen head
    expected_error: Tensor  # (S, N, H, W) Laplace scale, same unit as the images
    heads: Tensor  # (S, N, 2, H, W) residual to the key frame, full synthesis
    qualities: Tensor  # (S, N, 2) predicted SSIM of each head
    chosen: Tensor  # (S, N) int64
    fusion: Fusion


def _fill(parameter: Tensor | nn.Module | None, value: float) -> None:
    """Set a bias before training starts."""
    assert isinstance(parameter, Tensor)
    nn.init.constant_(parameter, value)


class Film(nn.Module):
    """Scale and shift channels by a condition: (B, c, h, w), (B, D) -> (B, c, h, w)."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)


class Block(nn.Module):
    """Residual block, starting as the identity.

    The stream carries absolute intensity; only what a block computes from it is normalised, pixel by pixel over the
    channels. Without that, single foreign inputs blew activations up by three orders of magnitude.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.level = PixelLevel(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = Film(condition, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=1e-3)
        _fill(self.second.bias, 0.0)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        step: Tensor = self.second(F.silu(self.film(self.first(self.level(x)), condition)))
        return x + step


class Blocks(nn.ModuleList):
    """Residual blocks one after another; since each starts as the identity, more of them can be added later (`grow`)."""

    def __init__(self, count: int, channels: int, condition: int) -> None:
        super().__init__(Block(channels, condition) for _ in range(count))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class ConvEncoder(nn.Module):
    """Images of one modality each -> features at strides 2, 4, 8, 16. Any encoder with this interface will do.

    forward: images (B, C, H, W) in [0, 2], condition (B, D) -> four tensors (B, widths[l], H / 2^(l+1), W / 2^(l+1)).
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        w = size.widths
        self.stem = nn.Conv2d(4 * size.neighbours, w[0], 3, padding=1)
        self.blocks = nn.ModuleList(Blocks(n, c, size.descriptor) for n, c in zip(size.encoder_blocks, w, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(w))

    def forward(self, images: Tensor, condition: Tensor) -> list[Tensor]:
        features = [self.blocks[0](F.silu(self.stem(F.pixel_unshuffle(images, 2))), condition)]
        for down, blocks in zip(self.down, list(self.blocks)[1:], strict=True):
            features.append(blocks(F.silu(down(features[-1])), condition))
        return features


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a SiLU between."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class PreWeightNet(nn.Module):
    """Eq 2-3: how much modality i can give to target j, from a learned memory read by attention."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.descriptor
        self.task_encoder = mlp(2 * d, d, d)
        self.memory = nn.Parameter(torch.randn(size.slots, size.memory, d) * 0.2)
        self.task_aware = mlp(4 * d + size.agreement, 2 * d, d)
        self.weight = mlp(2 * d, d, 1)
        self.gain = mlp(2 * d, d, 1)

    def read(self, base: Tensor, task: Tensor, want: Tensor) -> Tensor:
        """base (S, N, D), task (N, D), want (N) -> m (S, N, D)."""
        query = self.task_encoder(torch.cat([base, task.expand_as(base)], -1))
        bank = self.memory.index_select(0, want)  # (N, rows, D)
        score = (query[:, :, None] * bank).sum(-1) / query.shape[-1] ** 0.5
        memory: Tensor = (score.softmax(-1)[..., None] * bank).sum(2)
        return memory

    def forward(self, pair: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pair (S, N, K, 4D + agreement), memory (S, N, D) -> w_global, gain (S, N, K), x (S, N, K, D)."""
        x = F.silu(self.task_aware(pair))
        both = torch.cat([x, memory[:, :, None].expand_as(x)], -1)
        return torch.sigmoid(self.weight(both))[..., 0], torch.tanh(self.gain(both))[..., 0], x


class ThresholdNet(nn.Module):
    """Eq 4-5: how good a modality must be to be let in; in (0.05, 0.90)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.descriptor
        self.compat = mlp(2 * d, d, d)
        self.gate = nn.Linear(2 * d + 2, d)
        self.threshold = mlp(d, d, 1)

    def forward(self, w_global: Tensor, memory: Tensor, who: Tensor, past_gain: Tensor) -> tuple[Tensor, Tensor]:
        """w_global (S, N, K), memory (S, N, K, D), who (N, K, 2D), past_gain (N, K) -> tau (S, N, K), x_gate (S, N, K, D)."""
        compat = self.compat(who).expand_as(memory)
        scalars = torch.stack([w_global, past_gain.expand_as(w_global)], -1)
        x_gate = F.silu(self.gate(torch.cat([memory, compat, scalars], -1)))
        return 0.05 + 0.85 * torch.sigmoid(self.threshold(x_gate))[..., 0], x_gate


class EffiWeightNet(nn.Module):
    """Eq 6-7: how strongly a modality enters; in [0.001, 0.999]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.descriptor
        self.project = nn.Linear(4 * d + 2, d)
        self.weight = mlp(d, d, 1)
        _fill(self.weight[2].bias, 1.5)  # start by letting auxiliaries in strongly

    def forward(self, w_global: Tensor, tau: Tensor, memory: Tensor, x_gate: Tensor, who: Tensor) -> Tensor:
        """Scalars (S, N, K), memory and x_gate (S, N, K, D), who (N, K, 2D) -> w_eff (S, N, K)."""
        who = who.expand(*memory.shape[:-1], who.shape[-1])
        f = torch.cat([memory, x_gate, who, torch.stack([w_global, tau], -1)], -1)
        return torch.sigmoid(self.weight(F.silu(self.project(f))))[..., 0].clamp(0.001, 0.999)


class TaskHeadNet(nn.Module):
    """Eq 8-10: two light heads, a residual to the key frame and a full synthesis; the better predicted quality wins."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        w, d = size.widths[0], size.descriptor
        self.hidden = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for _ in range(2))
        self.out = nn.ModuleList(nn.Conv2d(w, 4, 1) for _ in range(2))
        for head in self.out:
            _fill(head.bias, 0.0)
        _fill(self.out[1].bias, 0.3)
        self.error = nn.Conv2d(w, 4, 1)
        _fill(self.error.bias, -2.0)
        self.quality = nn.ModuleList(mlp(w + 2 * d + 2, d, 1) for _ in range(2))

    def images(self, features: Tensor, key_image: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, w, h, w), key_image (B, H, W) -> both heads (B, 2, H, W), expected error (B, H, W)."""
        residual, full = (out(F.silu(hidden(features))) for hidden, out in zip(self.hidden, self.out, strict=True))
        both = torch.stack([F.pixel_shuffle(residual, 2)[:, 0] + key_image, F.pixel_shuffle(full, 2)[:, 0]], 1)
        error = F.softplus(F.pixel_shuffle(self.error(features), 2)[:, 0]) + 1e-3
        return both, error

    def qualities(self, pooled: Tensor, error: Tensor, contrast: Tensor) -> Tensor:
        """pooled (B, w + 2D), error (B), contrast (B, 2): spread of each head -> predicted SSIM (B, 2)."""
        scores = [q(torch.cat([pooled, error.log()[:, None], contrast[:, h : h + 1]], -1)) for h, q in enumerate(self.quality)]
        return torch.sigmoid(torch.cat(scores, -1))


class CMIM(nn.Module):
    """Eq 11-12: does an image look like what it claims to be? Image vectors against sentence embeddings."""

    def __init__(self, text: Tensor, width: int = 24, vector: int = 64) -> None:
        super().__init__()
        self.text: Tensor
        self.register_buffer("text", F.normalize(text, dim=-1))
        self.text_encoder = nn.Linear(text.shape[1], vector, bias=False)
        self.first = nn.Conv2d(16, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.third = nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1)
        self.project = mlp(6 * width, vector, vector)

    def embed(self, images: Tensor) -> Tensor:
        """(B, H, W) on the network's scale -> unit vectors (B, 64)."""
        x = F.silu(self.first(F.pixel_unshuffle(images[:, None], 4)))
        x = F.silu(self.third(F.silu(self.second(x))))
        inside = foreground(images, 16)
        mean = pool(x, inside)
        spread = (pool((x - mean[..., None, None]) ** 2, inside) + 1e-6).sqrt()
        return F.normalize(self.project(torch.cat([mean, spread], -1)), dim=-1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W) -> logits over the vocabulary (B, M): cosine / temperature."""
        text = F.normalize(self.text_encoder(self.text), dim=-1)
        return self.embed(images) @ text.T / CMIM_TEMPERATURE


def foreground(images: Tensor, stride: int) -> Tensor:
    """(B, H, W) -> (B, 1, H / stride, W / stride) share of pixels inside the head, never all zero."""
    return F.avg_pool2d((images > BACKGROUND).to(images.dtype)[:, None], stride) + 1e-4


def pool(features: Tensor, inside: Tensor) -> Tensor:
    """Weighted mean over the last two axes: (..., c, h, w), (..., 1, h, w) -> (..., c)."""
    return (features * inside).sum((-2, -1)) / inside.sum((-2, -1))


class Decoder(nn.Module):
    """Fused features of four strides -> features at stride 2, conditioned on the target."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        w = size.widths
        self.join = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for c in w)
        self.raw = nn.Conv2d(4 * size.slots, w[0], 3, padding=1)
        self.blocks = nn.ModuleList(Blocks(n, c, size.descriptor) for n, c in zip(size.decoder_blocks, w, strict=True))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(w))

    def forward(self, base: list[Tensor], aux: list[Tensor], raw: Tensor, task: Tensor) -> Tensor:
        """base, aux: four (B, c, h, w); raw (B, 4M, H/2, W/2): the gated images themselves; task (B, D)."""
        x: Tensor | None = None
        for level in reversed(range(len(base))):
            fused = self.join[level](torch.cat([base[level], aux[level]], 1))
            if x is not None:
                fused = fused + F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest")
            if level == 0:
                fused = F.silu(fused + self.raw(raw))
            x = self.blocks[level](fused, task)
        assert x is not None
        return x


class MedK2N(nn.Module):
    """The whole network. `text`: (M, 384) sentence embeddings of the modality descriptions."""

    gated = True

    def __init__(self, size: Size, text: Tensor, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.size = size
        d, w, m = size.descriptor, size.widths, size.slots
        self.modal = nn.Parameter(torch.randn(m, d) * 0.3)  # e_modal
        self.task = nn.Parameter(torch.randn(m, d) * 0.3)  # e_task
        self.affinity = nn.Parameter(torch.full((m, m), 0.5))  # A[i, j]: quality of j from i alone
        self.past_gain: Tensor
        self.register_buffer("past_gain", torch.zeros(m, m))  # p_ij, measured in training, frozen in the graph
        self.encoder = encoder or ConvEncoder(size)
        self.describe = nn.Linear(w[1] + w[3], d)
        self.agree = nn.Conv2d(w[1], size.agreement, 1)
        self.preweight = PreWeightNet(size)
        self.threshold = ThresholdNet(size)
        self.effiweight = EffiWeightNet(size)
        self.attend_base = nn.ModuleList(nn.Conv2d(c, size.attention, 1) for c in w)
        self.attend_aux = nn.ModuleList(nn.Conv2d(c, size.attention, 1) for c in w)
        self.attend_task = nn.Linear(d, size.attention)
        self.attend = nn.ModuleList(nn.Conv2d(size.attention, 1, 1) for _ in w)
        self.decoder = Decoder(size)
        self.taskhead = TaskHeadNet(size)
        self.cmim = CMIM(text)

    def encode(self, images: Tensor, have: Tensor) -> list[Tensor]:
        """images (S, K, C, H, W), have (K) -> four (S, K, c, h, w)."""
        s, k = images.shape[:2]
        condition = self.modal.index_select(0, have).expand(s, -1, -1).flatten(0, 1)
        return [f.unflatten(0, (s, k)) for f in self.encoder(images.flatten(0, 1), condition)]

    def choose_key(self, have: Tensor, want: Tensor) -> Tensor:
        """(N) position within `have` of each target's key frame: the best learned affinity."""
        return self.affinity.index_select(0, have).index_select(1, want).argmax(0)

    def fuse_weights(
        self, images: Tensor, features: list[Tensor], have: Tensor, want: Tensor, key: Tensor, override: Tensor
    ) -> Fusion:
        """The vector part: descriptors of every pair in, gates and weights out."""
        centre = images[:, :, images.shape[2] // 2]
        s, k = centre.shape[:2]
        inside4, inside16 = (foreground(centre.flatten(0, 1), n).unflatten(0, (s, k)) for n in (4, 16))
        own = self.describe(torch.cat([pool(features[1], inside4), pool(features[3], inside16)], -1))  # (S, K, D)
        base = own.index_select(1, key)  # (S, N, D)
        task, modal = self.task.index_select(0, want), self.modal.index_select(0, have)
        memory = self.preweight.read(base, task, want)
        n = want.shape[0]
        who = torch.cat([modal[None].expand(n, -1, -1), task[:, None].expand(-1, k, -1)], -1)  # (N, K, 2D)
        agreement = self._agreement(features[1], inside4, key)
        pair = torch.cat(
            [
                base[:, :, None].expand(-1, -1, k, -1),
                own[:, None].expand(-1, n, -1, -1),
                who.expand(s, -1, -1, -1),
                agreement,
            ],
            -1,
        )
        w_global, gain, _ = self.preweight(pair, memory)
        wide = memory[:, :, None].expand(-1, -1, k, -1)
        past = self.past_gain.index_select(0, have).index_select(1, want).T
        tau, x_gate = self.threshold(w_global, wide, who, past)
        w_eff = self.effiweight(w_global, tau, wide, x_gate, who)
        one_hot = (key[:, None] == torch.arange(k, device=key.device)).to(w_eff.dtype)  # (N, K)
        gate = self._gate(w_global, tau, one_hot, override)
        return Fusion(w_global, tau, gate, w_eff, gain, one_hot, memory)

    def _agreement(self, features: Tensor, inside: Tensor, key: Tensor) -> Tensor:
        """Correlation over the image of learned feature maps of key frame and auxiliary: (S, N, K, agreement)."""
        s, k = features.shape[:2]
        u = self.agree(features.flatten(0, 1)).unflatten(0, (s, k))
        u = u - pool(u, inside)[..., None, None]
        u = u * torch.rsqrt(pool(u * u, inside) + 1e-5)[..., None, None]
        base, weight = u.index_select(1, key), inside.index_select(1, key)
        both = (base * weight).flatten(3)[:, :, None] * u.flatten(3)[:, None]  # (S, N, K, a, hw)
        agreement: Tensor = both.sum(-1) / weight.flatten(2).sum(-1)[:, :, None, None]
        return agreement

    def _gate(self, w_global: Tensor, tau: Tensor, key: Tensor, override: Tensor) -> Tensor:
        gate = (w_global >= tau).to(w_global.dtype)
        if self.training:
            soft = torch.sigmoid((w_global - tau) / GATE_TEMPERATURE)
            gate = gate + soft - soft.detach()
        asked = override.to(gate.dtype).expand_as(gate)
        gate = torch.where(asked >= 0, asked, gate)
        return torch.where(key.expand_as(gate) > 0, torch.ones_like(gate), gate)

    def fuse(self, features: list[Tensor], fusion: Fusion, key: Tensor, task: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Each scale: the key frame's features and one weighted sum of the auxiliaries', (S * N, c, h, w)."""
        applied = (fusion.gate * fusion.w_eff * (1 - fusion.key))[..., None, None, None]
        offset = self.attend_task(task)[None, :, None, :, None, None]
        bases, auxes = [], []
        for level, f in enumerate(features):
            s, k = f.shape[:2]
            base = f.index_select(1, key)
            n = base.shape[1]
            a = self.attend_base[level](base.flatten(0, 1)).unflatten(0, (s, n))[:, :, None]
            b = self.attend_aux[level](f.flatten(0, 1)).unflatten(0, (s, k))[:, None]
            where = self.attend[level](F.silu(a + b + offset).flatten(0, 2)).unflatten(0, (s, n, k))
            auxes.append((torch.sigmoid(where) * applied * f[:, None]).sum(2).flatten(0, 1))
            bases.append(base.flatten(0, 1))
        return bases, auxes

    def forward(
        self,
        images: Tensor,
        have: Tensor,
        want: Tensor,
        gate_override: Tensor,
        head_override: Tensor,
        key: Tensor | None = None,
    ) -> Outputs:
        """images (S, K, C, H, W) in [0, 2], have (K), want (N), gate_override (N, K), head_override (N); -1 is auto."""
        if key is None:
            key = self.choose_key(have, want)
        features = self.encode(images, have)
        fusion = self.fuse_weights(images, features, have, want, key, gate_override)
        return self.decode(images, features, have, want, key, fusion, head_override)

    def decode(
        self,
        images: Tensor,
        features: list[Tensor],
        have: Tensor,
        want: Tensor,
        key: Tensor,
        fusion: Fusion,
        head_override: Tensor,
    ) -> Outputs:
        """From features and fusion decisions to images; training also calls it with one gate turned."""
        s, n = images.shape[0], want.shape[0]
        task = self.task.index_select(0, want)
        base, aux = self.fuse(features, fusion, key, task)
        raw = self._raw(images, have, fusion)
        decoded = self.decoder(base, aux, raw, task.expand(s, -1, -1).flatten(0, 1))
        key_image = images[:, :, images.shape[2] // 2].index_select(1, key).flatten(0, 1)
        both, error = self.taskhead.images(decoded, key_image)
        quality = self._quality(decoded, both, error, key_image, fusion.memory, task)
        best = (quality[:, 1] > quality[:, 0]).to(torch.int64).unflatten(0, (s, n))
        chosen = torch.where(head_override >= 0, head_override, best)
        heads = both.unflatten(0, (s, n))
        picked = torch.where(chosen[..., None, None] == 1, heads[:, :, 1], heads[:, :, 0])
        return Outputs(picked, error.unflatten(0, (s, n)), heads, quality.unflatten(0, (s, n)), chosen, fusion)

    def _raw(self, images: Tensor, have: Tensor, fusion: Fusion) -> Tensor:
        """The gated images at half resolution in their slots: (S * N, 4M, H/2, W/2)."""
        s, k = images.shape[:2]
        x = F.pixel_unshuffle(images[:, :, images.shape[2] // 2].flatten(0, 1)[:, None], 2).unflatten(0, (s, k))
        slots = (have[:, None] == torch.arange(self.size.slots, device=have.device)).to(x.dtype)  # (K, M)
        weight = fusion.key + fusion.gate * fusion.w_eff * (1 - fusion.key)
        mix = (weight[..., None] * slots).transpose(2, 3).flatten(1, 2)  # (S, N * M, K)
        return torch.bmm(mix, x.flatten(2)).reshape(s * weight.shape[1], -1, x.shape[-2], x.shape[-1])

    def _quality(self, decoded: Tensor, both: Tensor, error: Tensor, key_image: Tensor, memory: Tensor, task: Tensor) -> Tensor:
        inside = foreground(key_image, 2)
        s = memory.shape[0]
        pooled = torch.cat([pool(decoded, inside), memory.flatten(0, 1), task.expand(s, -1, -1).flatten(0, 1)], -1)
        weight = (key_image > BACKGROUND).to(error.dtype) + 1e-4
        mean_error = (error * weight).sum((-2, -1)) / weight.sum((-2, -1))
        sharpness = pool((both[:, :, 1:] - both[:, :, :-1]).abs(), weight[:, None, 1:])
        return self.taskhead.qualities(pooled.detach(), mean_error.detach(), sharpness.detach())


class Exported(nn.Module):
    """The graph contract: the names, shapes and order of inputs and outputs that ONNX carries (`model.card`)."""

    INPUTS, OUTPUTS = INPUTS, OUTPUTS

    def __init__(self, network: MedK2N) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: Tensor, have: Tensor, want: Tensor, gate_override: Tensor, head_override: Tensor
    ) -> tuple[Tensor, ...]:
        """Inputs and outputs as `INPUTS` and `OUTPUTS` name them; fusion quantities are (S, N, M), 0 where not available."""
        out = self.network(images, have, want, gate_override, head_override)
        slots = (have[:, None] == torch.arange(self.network.size.slots, device=have.device)).to(images.dtype)
        f = out.fusion
        scattered = [t @ slots for t in (f.w_global, f.threshold, f.gate, f.w_eff, f.gain)]
        quality = torch.where(out.chosen == 1, out.qualities[..., 1], out.qualities[..., 0])
        identity, seen = (
            self.network.cmim(x.flatten(0, 1)).softmax(-1).unflatten(0, x.shape[:2])
            for x in (out.synthesised, images[:, :, images.shape[2] // 2])
        )
        return (out.synthesised, out.expected_error, *scattered, f.key @ slots, quality, out.chosen, identity, seen)
