"""How far a synthesised volume is from the truth: protocols H, W and P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medk2n_cli.training.losses import ssim_map

FloatArray = NDArray[np.float32]
PEAK_PERCENTILE = 99.5
_P_SIZE, _P_MIN_PIXELS = 256, 2000
_MIN_PIXELS = 200


@dataclass(frozen=True)
class Scores:
    """R2 (1 is perfect, 0 predicts the mean), PSNR dB, SSIM, NMAE (mean absolute error over the mean of the truth)."""

    r2: float
    psnr: float
    ssim: float
    nmae: float

    def to_dict(self) -> dict[str, float]:
        """Rounded, for tables and cards."""
        return {k: round(float(v), 4) for k, v in vars(self).items()}


def rounded(values: Mapping[str, object]) -> dict[str, object]:
    """Plain JSON of one row: numbers to four places, the rest as it is."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def peak_of(truth: FloatArray, head: NDArray[np.bool_]) -> float:
    """The truth's 99.5th percentile inside the head: the data range of PSNR and SSIM."""
    return max(float(np.percentile(truth[head], PEAK_PERCENTILE)), 1e-6)


def protocol_h(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_]) -> Scores:
    """(D, H, W) each on the network's scale, inside the head, whole volume."""
    t, error = truth[head], (made - truth)[head]
    peak = peak_of(truth, head)
    mse = float(np.mean(error**2))
    return Scores(
        r2=1 - mse / max(float(t.var()), 1e-12),
        psnr=10 * np.log10(peak**2 / max(mse, 1e-12)),
        ssim=_ssim(made, truth, head, peak),
        nmae=float(np.abs(error).mean() / max(float(t.mean()), 1e-6)),
    )


def protocol_w(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_]) -> Scores:
    """Protocol H after the one gain and offset that fit best: a reader sets the window anyway."""
    x, t = made[head], truth[head]
    gain, offset = np.polyfit(x, t, 1) if x.std() > 1e-4 else (0.0, float(t.mean()))
    return protocol_h((made * gain + offset).astype(np.float32), truth, head)


def protocol_p(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_]) -> tuple[float, float]:
    """(PSNR dB, SSIM) as papers report them: slices min-max stretched, 256 x 256 with background, range 1."""
    rows = []
    for m, t, h in zip(made * head, truth * head, head, strict=True):
        if h.sum() < _P_MIN_PIXELS:
            continue
        a, b = _framed(_stretched(m)), _framed(_stretched(t))
        mse = float(np.mean((a - b) ** 2))
        rows.append((10 * np.log10(1 / max(mse, 1e-12)), float(_local_ssim(a[None], b[None], 1.0).mean())))
    mean = np.mean(rows, axis=0) if rows else (float("nan"), float("nan"))
    return float(mean[0]), float(mean[1])


def ssim_by_slice(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_], peak: float) -> NDArray[np.float32]:
    """(D,) mean over each slice's head, NaN where a slice holds fewer than 200 pixels of it."""
    local = _local_ssim(made * head, truth * head, peak)
    enough = head.sum((1, 2)) >= _MIN_PIXELS
    return np.array([local[k][head[k]].mean() if e else np.nan for k, e in enumerate(enough)], np.float32)


def _ssim(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_], peak: float) -> float:
    """Slices weighted alike."""
    means = ssim_by_slice(made, truth, head, peak)
    return float(np.nanmean(means)) if np.isfinite(means).any() else float("nan")


def _local_ssim(a: FloatArray, b: FloatArray, data_range: float) -> NDArray[np.float32]:
    with torch.no_grad():
        ta, tb = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (a, b))
        parts = [ssim_map(x, y, data_range) for x, y in zip(ta.split(8), tb.split(8), strict=True)]
    return np.asarray(torch.cat(parts).numpy())


def _stretched(image: FloatArray) -> FloatArray:
    low, high = float(image.min()), float(image.max())
    return np.asarray((image - low) / max(high - low, 1e-6), dtype=np.float32)


def _framed(image: FloatArray) -> FloatArray:
    """Padded with zeros or cut to 256 x 256, centred."""
    pads = [(_P_SIZE - n) for n in image.shape]
    frame = [p // 2 if p >= 0 else -((-p) // 2) for p in pads]
    tensor = torch.from_numpy(image)[None]
    padded = F.pad(tensor, (frame[1], pads[1] - frame[1], frame[0], pads[0] - frame[0]))
    return np.asarray(padded[0].numpy())
