"""How far a synthesised volume is from the truth: protocols H and W are the tool's own, protocol P is that of papers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from medk2n_cli.packing.likeness import Scores, peak_of, protocol_h, protocol_w, r2, ssim_by_slice, ssim_map

__all__ = ["Scores", "peak_of", "protocol_h", "protocol_p", "protocol_w", "r2", "rounded", "ssim_by_slice"]

FloatArray = NDArray[np.float32]
_P_SIZE, _P_MIN_PIXELS = 256, 2000


def rounded(values: Mapping[str, object]) -> dict[str, object]:
    """Plain JSON of one row: numbers to four places, the rest as it is."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def protocol_p(made: FloatArray, truth: FloatArray, head: NDArray[np.bool_]) -> tuple[float, float]:
    """(PSNR dB, SSIM) as papers report them: slices min-max stretched, 256 x 256 with background, range 1."""
    rows = []
    for m, t, h in zip(made * head, truth * head, head, strict=True):
        if h.sum() < _P_MIN_PIXELS:
            continue
        a, b = _framed(_stretched(m)), _framed(_stretched(t))
        mse = float(np.mean((a - b) ** 2))
        rows.append((10 * np.log10(1 / max(mse, 1e-12)), float(ssim_map(a, b, 1.0).mean())))
    mean = np.mean(rows, axis=0) if rows else (float("nan"), float("nan"))
    return float(mean[0]), float(mean[1])


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
