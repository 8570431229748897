"""How like a synthesised volume is to the truth. Inside the head, whole volume, NumPy only: training and audits use it alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
PEAK_PERCENTILE = 99.5
MIN_PIXELS = 200  # of head in a slice, below which its SSIM says nothing
_WINDOW, _K1, _K2 = 7, 0.01, 0.03


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


def peak_of(truth: FloatArray, head: BoolArray) -> float:
    """The truth's 99.5th percentile inside the head: the data range of PSNR and SSIM."""
    return max(float(np.percentile(truth[head], PEAK_PERCENTILE)), 1e-6)


def protocol_h(made: FloatArray, truth: FloatArray, head: BoolArray) -> Scores:
    """(D, H, W) each on the network's scale, inside the head, whole volume."""
    t, error = truth[head], (made - truth)[head]
    peak = peak_of(truth, head)
    mse = float(np.mean(error**2))
    by_slice = ssim_by_slice(made, truth, head, peak)
    return Scores(
        r2=r2(made, truth, head),
        psnr=10 * np.log10(peak**2 / max(mse, 1e-12)),
        ssim=float(np.nanmean(by_slice)) if np.isfinite(by_slice).any() else float("nan"),
        nmae=float(np.abs(error).mean() / max(float(t.mean()), 1e-6)),
    )


def r2(made: FloatArray, truth: FloatArray, head: BoolArray) -> float:
    """Share of the truth's variance inside the head that `made` explains; 0 predicts the mean."""
    return 1 - float(np.mean((made - truth)[head] ** 2)) / max(float(truth[head].var()), 1e-12)


def protocol_w(made: FloatArray, truth: FloatArray, head: BoolArray) -> Scores:
    """Protocol H after the one gain and offset that fit best: a reader sets the window anyway."""
    return protocol_h(windowed(made, truth, head), truth, head)


def windowed(made: FloatArray, truth: FloatArray, head: BoolArray) -> FloatArray:
    """(D, H, W) `made` after its `best_window`."""
    gain, offset = best_window(made, truth, head)
    return np.asarray(made * gain + offset, np.float32)


def best_window(made: FloatArray, truth: FloatArray, head: BoolArray) -> tuple[float, float]:
    """Least-squares gain and offset from `made` to `truth` inside the head."""
    x, t = made[head], truth[head]
    if x.std() <= 1e-4:
        return 0.0, float(t.mean())
    gain, offset = np.polyfit(x, t, 1)
    return float(gain), float(offset)


def ssim_by_slice(made: FloatArray, truth: FloatArray, head: BoolArray, peak: float) -> FloatArray:
    """(D,) mean over each slice's head, NaN where a slice holds fewer than 200 pixels of it."""
    means = np.full(len(made), np.nan, np.float32)
    for k, inside in enumerate(head):
        if inside.sum() >= MIN_PIXELS:
            means[k] = ssim_map(made[k] * inside, truth[k] * inside, peak)[inside].mean()
    return means


def ssim_map(a: FloatArray, b: FloatArray, data_range: float) -> NDArray[np.float64]:
    """(H, W) each -> local SSIM, same shape; uniform 7 x 7 window, at the edge what lies inside (Wang et al. 2004)."""
    x, y = a.astype(np.float64), b.astype(np.float64)  # variances as differences of squares need all digits
    mx, my, xx, yy, xy = (_local_mean(v) for v in (x, y, x * x, y * y, x * y))
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    vx, vy, cov = np.maximum(xx - mx * mx, 0), np.maximum(yy - my * my, 0), xy - mx * my
    return np.asarray((2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2)))


def _local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return _running(_running(image, 0), 1)


def _running(image: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean over a window along one axis, by differences of running sums."""
    moved = np.moveaxis(image, axis, 0)
    n, reach = len(moved), _WINDOW // 2
    total = np.concatenate([np.zeros((1, *moved.shape[1:])), np.cumsum(moved, 0)])
    low, high = np.maximum(np.arange(n) - reach, 0), np.minimum(np.arange(n) + reach + 1, n)
    mean = (total[high] - total[low]) / (high - low).reshape(-1, *[1] * (moved.ndim - 1))
    return np.moveaxis(mean, 0, axis)
