"""Training curves as a picture: what `fit` wrote beside its checkpoint, several runs one after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_TERMS = ("l1", "ssim", "quality", "gate", "gain", "identity")
_SMOOTH = 5


def draw_curves(files: Sequence[Path], out: Path) -> Path:
    """Every loss term, and how often clean and spoiled gates open, over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    figure, axes = plt.subplots(1, len(_TERMS) + 1, figsize=(3 * (len(_TERMS) + 1), 2.6))
    for axis, term in zip(axes, _TERMS, strict=False):
        points = np.array([(line["step"], line[term]) for line in lines if line.get(term) is not None])
        _plot(axis, points, term)
    for kind in ("clean", "spoiled"):
        rates = [(line["step"], np.mean(found)) for line in lines if (found := _rates(line, kind))]
        _plot(axes[-1], np.array(rates), f"open gates, {kind}")
    axes[-1].legend(fontsize=7)
    axes[-1].set_title("open gates", fontsize=9)
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    plt.close(figure)
    return out


def _rates(line: dict[str, float], kind: str) -> list[float]:
    return [v for k, v in line.items() if k.startswith(f"open {kind} ")]


def _plot(axis: object, points: np.ndarray, name: str) -> None:
    kernel = np.ones(_SMOOTH) / _SMOOTH
    if len(points) >= _SMOOTH:
        smooth = np.convolve(points[:, 1], kernel, mode="valid")
        axis.plot(points[_SMOOTH - 1 :, 0], smooth, label=name)  # type: ignore[attr-defined]
        low, high = np.percentile(smooth, [0, 98])
        limits = (0.0, 1.0) if name.startswith("open") else (low * 0.95, max(high * 1.1, 1e-3))
        axis.set_ylim(*limits)  # type: ignore[attr-defined]
    axis.set_title(name, fontsize=9)  # type: ignore[attr-defined]
    axis.set_xlabel("step", fontsize=8)  # type: ignore[attr-defined]
    axis.tick_params(labelsize=7)  # type: ignore[attr-defined]
