"""Images of a result: previews in three planes, strips of slices, curves. Radiological: the patient's right is on the left."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medk2n_cli.core.fusion import TargetReport
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.quiet import warnings_as
from medk2n_cli.core.views import Image, Views

WATERMARK = "SYNTHETIC, NOT FOR DIAGNOSIS"
STRIP_SLICES = 8
ERROR_TOP = 0.3  # expected error shown brightest, on the network's scale (normal tissue is 0.5)
_WARNING = "#ffb000"
# Okabe and Ito: told apart by everyone; the dashes tell them apart in print.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class Labels:
    """What the rows of a strip are called."""

    truth: str = "acquired"
    made: str = "SYNTH"
    error: str = "expected error"


def preview(views: Views, target: Modality) -> bytes:
    """PNG: axial, coronal and sagittal through the middle of the head; inputs, the target, its expected error."""
    columns = [(m.value, a, False) for m, a in views.inputs.items() if m is not target]
    columns += [(f"acquired {target.value}", views.truths[target], False)] if target in views.truths else []
    columns.append((f"SYNTH {target.value}", views.targets[target], True))
    planes = _planes(views)
    heights = [p.shape[0] * aspect / p.shape[1] for p, aspect in (f(views.head) for f in planes.values())]
    figure = Figure(figsize=(2.1 * len(columns) + 0.1, 2.1 * sum(heights) + 0.7), dpi=110, facecolor="black")
    axes = figure.subplots(3, len(columns), squeeze=False, gridspec_kw={"height_ratios": heights, "hspace": 0.03, "wspace": 0.03})
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.5 / (2.1 * sum(heights) + 0.7))
    for column, (title, array, synthetic) in enumerate(columns):
        top = views.window(array)
        for row, (plane, cut) in enumerate(planes.items()):
            picture, aspect = cut(array.astype(np.float32))
            one = axes[row][column]
            one.imshow(picture, cmap="gray", vmin=0, vmax=top, aspect=aspect, interpolation="nearest")
            one.axis("off")
            _sides(one, plane)
            if synthetic:
                _watermark(one)
        axes[0][column].set_title(title, color=_WARNING if synthetic else "white", fontsize=9, pad=3)
    figure.suptitle(f"{WATERMARK} — synthetic {target.value}", color=_WARNING, fontsize=10, y=0.995, va="top")
    return _encoded(figure, "png")


def strip(views: Views, target: Modality, labels: Labels | None = None) -> bytes:
    """JPEG: slices through the head; a row per input, the acquired target if any, the made one, and it under its error."""
    labels, numbers = labels or Labels(), views.slices(STRIP_SLICES)
    rows: list[tuple[str, Image, bool]] = [(m.value, a, False) for m, a in views.inputs.items() if m is not target]
    rows += [(f"{labels.truth}\n{target.value}", views.truths[target], "SYNTH" in labels.truth)] if target in views.truths else []
    made = views.targets[target]
    rows += [(f"{labels.made}\n{target.value}", made, "SYNTH" in labels.made), (labels.error.replace(" ", "\n"), made, True)]
    window = _crop(views.head)
    height = (window[1].stop - window[1].start) / (window[0].stop - window[0].start)
    size = (1.25 * len(numbers) + 0.7, 1.25 * height * len(rows) + 0.3)
    figure = Figure(figsize=size, dpi=120, facecolor="black")
    axes = figure.subplots(len(rows), len(numbers), squeeze=False, gridspec_kw={"hspace": 0.02, "wspace": 0.02})
    figure.subplots_adjust(0.7 / size[0], 0.005, 0.998, 1 - 0.28 / size[1])
    for row, (name, array, synthetic) in enumerate(rows):
        top, last = views.window(array), row == len(rows) - 1
        for column, k in enumerate(numbers):
            one = axes[row][column]
            one.imshow(array[(*window, k)].astype(np.float32).T, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            if last:
                _overlay(one, views.errors[target][(*window, k)].astype(np.float32).T)
            one.axis("off")
            if row == 0:
                one.set_title(f"slice {k + 1}", color="white", fontsize=7, pad=2)
            if synthetic:
                _watermark(one)
        axes[row][0].text(
            -0.06,
            0.5,
            name,
            color=_WARNING if synthetic else "white",
            fontsize=8,
            ha="right",
            va="center",
            transform=axes[row][0].transAxes,
        )
    _sides(axes[0][0], "axial")
    return _encoded(figure, "jpeg")


def curves(target: TargetReport) -> str:
    """SVG in the page's own text colour: w_global of every source along the slices, thresholds as short bars at the right."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "medk2n", "text.color": "#010203", "axes.edgecolor": "#010203"}):
        figure = Figure(figsize=(4.6, 2.1), facecolor="none")
        one = figure.subplots()
        figure.subplots_adjust(0.09, 0.2, 0.8, 0.97)
        one.set_facecolor("none")
        places = np.arange(1, len(target.slice_quality) + 1)
        for number, c in enumerate(target.contributions):
            colour, dash = _COLOURS[number % 6], _DASHES[number % 6]
            one.plot(places, c.slice_w_global, color=colour, linestyle=dash, linewidth=1.4)
            label = f"{c.source.value} {'key' if c.key else 'open' if c.gate else 'CLOSED'}"
            one.annotate(
                label, (1.02, c.slice_w_global[-1]), xycoords=("axes fraction", "data"), color=colour, fontsize=8, va="center"
            )
            if not c.key:
                one.axhline(c.threshold, color=colour, linewidth=0.8, alpha=0.6, linestyle=dash)
        one.plot(places, target.slice_quality, color="#010203", linewidth=0.8, alpha=0.7)
        one.set(ylim=(0, 1), xlim=(1, max(2, len(places))), xlabel="slice of the head, from below")
        one.tick_params(colors="#010203", labelsize=7)
        one.xaxis.label.set(color="#010203", fontsize=8)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        with io.StringIO() as stream:
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
            drawn = stream.getvalue()
    return drawn[drawn.index("<svg") :].replace("#010203", "currentColor")


def error_bar() -> str:
    """CSS gradient of the overlay's colours, from no expected error to `ERROR_TOP`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return "linear-gradient(to right, " + ", ".join(to_hex(colormaps["inferno"](v)) for v in np.linspace(0, 1, 7)) + ")"


def _planes(views: Views) -> Mapping[str, Any]:
    """Plane -> (I, J, K) -> picture with superior (or anterior) at the top, and the aspect of its pixels."""
    i, j, k = views.centre()
    di, dj, dk = views.grid.spacing
    return {
        "axial": lambda a: (a[:, :, k].T, dj / di),
        "coronal": lambda a: (a[:, j, ::-1].T, dk / di),
        "sagittal": lambda a: (a[i, :, ::-1].T, dk / dj),
    }


def _crop(head: NDArray[np.bool_]) -> tuple[slice, slice]:
    spans = [np.flatnonzero(head.any(tuple(a for a in range(3) if a != axis))) for axis in (0, 1)]
    i, j = (slice(int(s[0]), int(s[-1]) + 1) for s in spans)
    return i, j


def _overlay(axes: Any, error: NDArray[np.float32]) -> None:  # noqa: ANN401 - matplotlib's Axes
    axes.imshow(
        error, cmap="inferno", vmin=0, vmax=ERROR_TOP, alpha=np.clip(error / ERROR_TOP, 0, 1) * 0.8, interpolation="nearest"
    )


def _sides(axes: Any, plane: str) -> None:  # noqa: ANN401
    left, right = ("A", "P") if plane == "sagittal" else ("R", "L")
    for x, letter in ((0.03, left), (0.97, right)):
        axes.text(x, 0.5, letter, color=_WARNING, fontsize=7, ha="center", va="center", transform=axes.transAxes)


def _watermark(axes: Any) -> None:  # noqa: ANN401
    axes.text(0.5, 0.02, WATERMARK, color=_WARNING, fontsize=5, ha="center", va="bottom", alpha=0.9, transform=axes.transAxes)


def _encoded(figure: Figure, form: str) -> bytes:
    with io.BytesIO() as stream, warnings_as("ignore"):  # fonts without a glyph
        figure.savefig(
            stream, format=form, facecolor=figure.get_facecolor(), pil_kwargs={"quality": 80} if form == "jpeg" else {}
        )
        return stream.getvalue()
