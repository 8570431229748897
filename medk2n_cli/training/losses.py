"""Eq 14 and the facts that the gate, gain, quality and error heads are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from medk2n_cli.training.dataset import Batch
from medk2n_cli.training.network import GATE_TEMPERATURE, MedK2N, Outputs
from medk2n_cli.training.recipe import LossWeights

SSIM_RANGE = 1.0  # network scale: about the 99.5th percentile of a contrast
METRIC_MARGIN = 0.2
# A gate deserves to be open for sigmoid((gain + margin) / margin): a clean auxiliary without effect may come in (0.73), one
# that raises the error by a hundredth may not (0.27). With a positive margin young gates close before the network has
# learned what its auxiliaries are good for.
GAIN_MARGIN = 0.005
_NEAR_MM, _RING_MM = 15, 3  # a lesion is compared with the rim around it, both as far as a square of 15 mm shows them


def ssim_map(a: Tensor, b: Tensor, data_range: float = SSIM_RANGE, size: int = 7) -> Tensor:
    """(..., H, W) each -> local SSIM, same shape; uniform window, K1 = 0.01, K2 = 0.03 (Wang et al. 2004)."""
    a, b = a.float(), b.float()  # variances as differences of squares need all digits
    flat = torch.stack([a, b, a * a, b * b, a * b]).reshape(5, -1, *a.shape[-2:])
    rows = F.avg_pool2d(flat, (size, 1), stride=1, padding=(size // 2, 0), count_include_pad=False)
    mean = F.avg_pool2d(rows, (1, size), stride=1, padding=(0, size // 2), count_include_pad=False)
    ma, mb, aa, bb, ab = mean.reshape(5, *a.shape)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    va, vb, cov = (aa - ma * ma).clamp_min(0), (bb - mb * mb).clamp_min(0), ab - ma * mb
    similarity: Tensor = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return similarity


def in_head(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the last two axes."""
    return (values * weight).sum((-2, -1)) / weight.sum((-2, -1)).clamp_min(1.0)


def local_contrast(images: Tensor, lesion: Tensor, ring: Tensor) -> Tensor:
    """(..., H, W) each -> at every pixel: mean of the lesion nearby minus mean of its rim nearby; masks are 0 or 1."""
    inside, around = (_nearby(images * mask) / (_nearby(mask) + 1e-4) for mask in (lesion, ring))
    return inside - around


def _nearby(values: Tensor) -> Tensor:
    """(..., H, W) -> mean of the square of `_NEAR_MM` around each pixel, same shape."""
    rows = F.avg_pool2d(values.reshape(1, -1, *values.shape[-2:]), (_NEAR_MM, 1), stride=1, padding=(_NEAR_MM // 2, 0))
    return F.avg_pool2d(rows, (1, _NEAR_MM), stride=1, padding=(0, _NEAR_MM // 2)).reshape(values.shape)


def contrast_loss(heads: Tensor, batch: Batch) -> Tensor:
    """By how much lesions stand out less, or more, than they should: heads (B, N, 2, H, W) -> mean over lesions.

    The other image losses answer the likelier of fluid and lesion, lesion by lesion; a small one hardly counts there.
    Here each piece of a slice counts once, whatever its size.
    """
    lesion = (batch.weight > 1).float()
    grown = F.max_pool2d(lesion[:, None], 2 * _RING_MM + 1, stride=1, padding=_RING_MM)[:, 0]
    ring = grown * (1 - lesion) * (batch.weight > 0.5)
    share = _each_once(lesion * (_nearby(ring) > 0))
    masks = lesion[:, None, None], ring[:, None, None]
    wanted = local_contrast(batch.truth[:, :, None], *masks)
    missed = (local_contrast(heads.float(), *masks) - wanted).abs().mean((1, 2))
    return (missed * share).sum() / share.sum().clamp_min(1.0)


def _each_once(masks: Tensor) -> Tensor:
    """(B, H, W) masks -> 1 / area of the connected piece that a pixel belongs to, 0 outside."""
    shares = []
    for mask in masks.cpu().numpy() > 0:
        labels, _ = ndimage.label(mask)
        area = np.maximum(np.bincount(labels.ravel()), 1)
        shares.append(torch.from_numpy((mask / area[labels]).astype(np.float32)))
    return torch.stack(shares).to(masks.device)


def image_losses(out: Outputs, batch: Batch, w: LossWeights) -> dict[str, Tensor]:
    """L1, L2, SSIM and contrast of lesions of both heads, Laplace likelihood, regression of the measured SSIM."""
    truth, weight = batch.truth[:, :, None], batch.weight[:, None, None]
    distance = (out.heads - truth).abs()
    similarity = ssim_map(out.heads, truth.expand_as(out.heads))
    l1, l2 = in_head(distance, weight), in_head(distance.square(), weight)
    measured = in_head(similarity, (weight > 0.5).float())
    scale = out.expected_error
    error = (out.synthesised - batch.truth).abs().detach()
    laplace = in_head(error / scale + scale.log(), batch.weight[:, None])
    return {
        "l1": w.l1 * l1.mean(),
        "l2": w.l2 * l2.mean(),
        "contrast": w.contrast * contrast_loss(out.heads, batch),
        "ssim": w.ssim * (1 - in_head(similarity, weight)).mean(),
        "error": w.error * laplace.mean(),
        "quality": w.quality * F.smooth_l1_loss(out.qualities, measured.detach().clamp(0, 1), beta=0.1),
    }


def gate_losses(out: Outputs, relative_gain: Tensor, aux: int, spoiled: bool, w: LossWeights) -> dict[str, Tensor]:
    """relative_gain (B, N): by how much opening gate `aux` lowered the error. A spoiled input deserves a closed gate."""
    f = out.fusion
    counts = 1 - f.key[:, aux]  # the key frame's gate is open by definition
    deserved = torch.zeros_like(relative_gain) if spoiled else torch.sigmoid((relative_gain + GAIN_MARGIN) / GAIN_MARGIN)
    logit = (f.w_global[..., aux] - f.threshold[..., aux]) / GATE_TEMPERATURE
    gate = F.binary_cross_entropy_with_logits(logit, deserved, reduction="none")
    gain = (f.gain[..., aux] - relative_gain.clamp(-1, 1)) ** 2
    return {"gate": w.gate * (gate * counts).mean(), "gain": w.gain * (gain * counts).mean()}


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a training step knows before it decodes: features of four strides, key (N) positions in `have`."""

    batch: Batch
    images: Tensor
    features: list[Tensor]
    key: Tensor


@torch.no_grad()
def measured_gain(network: MedK2N, out: Outputs, seen: Encoded, aux: int) -> Tensor:
    """(B, N) by how much, relatively, an open gate `aux` lowers the L1 error."""
    batch, auto = seen.batch, torch.full((len(seen.batch.want),), -1, device=seen.images.device)
    errors = []
    for value in (0.0, 1.0):
        gate = out.fusion.gate.detach().clone()
        gate[..., aux] = value
        gate = torch.where(out.fusion.key.expand_as(gate) > 0, torch.ones_like(gate), gate)
        heads = out.heads
        if not bool((gate == out.fusion.gate).all()):
            turned = out.fusion._replace(gate=gate)
            heads = network.decode(seen.images, seen.features, batch.have, batch.want, seen.key, turned, auto).heads
        distance = (heads - batch.truth[:, :, None]).abs().mean(2)
        errors.append(in_head(distance, batch.weight[:, None]))
    closed, opened = errors
    return (closed - opened) / (closed + 1e-3)


def affinity_loss(network: MedK2N, out: Outputs, batch: Batch, w: LossWeights) -> dict[str, Tensor]:
    """K = 1: the affinity table learns the SSIM that each target reached from its key frame alone."""
    measured = in_head(ssim_map(out.synthesised, batch.truth), (batch.weight[:, None] > 0.5).float()).mean(0).detach()
    table = network.affinity.index_select(0, batch.have).index_select(1, batch.want)[0]
    return {"affinity": w.affinity * F.mse_loss(table, measured)}


def identity_losses(network: MedK2N, out: Outputs, batch: Batch, clean_inputs: Tensor, w: LossWeights) -> dict[str, Tensor]:
    """CMIM: the encoder learns to name acquired images; synthesised ones must be named right by the frozen encoder.

    clean_inputs: (B, K, H, W) centre slices before corruption.
    """
    b, n = batch.truth.shape[:2]
    real = torch.cat([clean_inputs, batch.truth], 1).flatten(0, 1)
    names = torch.cat([batch.have, batch.want]).repeat(b)
    filled = (real > 0.03).float().mean((-2, -1)) > 0.05  # a crop of air has no contrast
    acquired = F.cross_entropy(network.cmim(real)[filled], names[filled]) if bool(filled.any()) else real.sum() * 0
    frozen = {name: p.detach() for name, p in network.cmim.named_parameters()}
    generated = out.synthesised.flatten(0, 1)
    logits = torch.func.functional_call(network.cmim, frozen, (generated,))
    looks = F.cross_entropy(logits, batch.want.repeat(b), reduction="none")
    with torch.no_grad():
        v_real = network.cmim.embed(batch.truth.flatten(0, 1))
        v_other = network.cmim.embed(clean_inputs[:, :1].expand(-1, n, -1, -1).flatten(0, 1))
    v_gen = torch.func.functional_call(_Embed(network.cmim), {f"cmim.{k}": v for k, v in frozen.items()}, (generated,))
    near, far = 1 - (v_gen * v_real).sum(-1), 1 - (v_gen * v_other).sum(-1)
    metric = F.relu(METRIC_MARGIN + near - far)
    ok = filled.unflatten(0, (b, -1))[:, batch.have.numel() :].flatten().float()
    return {"identity": w.identity * acquired, "looks": w.looks * ((looks + metric) * ok).mean()}


class _Embed(torch.nn.Module):
    """`CMIM.embed` as a module's forward, so that it can be called with detached parameters."""

    def __init__(self, cmim: torch.nn.Module) -> None:
        super().__init__()
        self.cmim = cmim

    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.cmim.embed(images)  # type: ignore[operator]
        return vectors
