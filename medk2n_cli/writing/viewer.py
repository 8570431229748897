"""`viewer.html`: a result to scroll through, one self-contained file beside the report, which stays without any script.

The pictures are drawn by `templates/viewer.js` on plain 2D canvases. NiiVue 0.69 was tried instead and works offline, but
it takes 2.3 of the 8 MB, needs WebGL 2, which browsers are about to refuse where there is no graphics card (a remote
desktop), and draws no words into its pictures, where the mark has to be.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable
from importlib.resources import files
from math import ceil
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from medk2n_cli.core.fusion import FusionReport
from medk2n_cli.core.views import Image, Views
from medk2n_cli.writing.figures import ERROR_TOP, WATERMARK, error_bar
from medk2n_cli.writing.page import all_warnings, error_scale, in_words

LIMIT = 7_800_000  # characters of packed pictures; with the page around them a file stays below 8 MB
_HEADROOM = 1.25  # the brightest value kept, in parts of the value that is shown white: what is above is fat
_MARGIN_MM = 12.0  # of black around the head, where letters go


class Grain(NamedTuple):
    """How finely pictures are kept: grey levels above black, and voxels in plane that become one."""

    levels: int
    step: int


class _Packed(TypedDict):
    levels: int
    step: int
    data: str


_ERROR_GRAIN = Grain(31, 2)  # an expected error is smooth

# From the finest on, a picture takes the first that fits its share: a noisy one a coarse one, where noise hides the steps.
_GRAINS = (*(Grain(n, 1) for n in (255, 127, 90, 63, 47, 31)), *(Grain(n, 2) for n in (127, 63, 31)))


def write_viewer(file: Path, report: FusionReport, views: Views) -> Path:
    """Render to `file`.

    Raises:
        OSError: it cannot be written.
    """
    environment = Environment(loader=PackageLoader("medk2n_cli.writing"), autoescape=True, undefined=StrictUndefined)
    script = (files("medk2n_cli.writing") / "templates" / "viewer.js").read_text(encoding="utf-8")
    study = _study(report, views)
    html = environment.get_template("viewer.html").render(
        mark=WATERMARK,
        title="Synthetic " + ", ".join(t.modality.value for t in report.targets),
        model=f"{report.model.name} {report.model.version}",
        warnings=all_warnings(report),
        study=study,
        error_bar=error_bar(),
        error_top=error_scale(),
        script=script,
    )
    file.write_text(_with_hashes(html), encoding="utf-8", newline="\n")
    return file


def _with_hashes(html: str) -> str:
    """The policy names the one style and the one script by their digests: nothing else is applied or run."""
    for name in ("style", "script"):
        text = re.search(rf"<{name}>(.*?)</{name}>", html, re.S)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode("ascii")
        html = html.replace(f"{name}-digest", f"sha256-{digest}", 1)
    return html


def _study(report: FusionReport, views: Views) -> dict[str, object]:
    """What the script is given, as plain JSON."""
    from matplotlib import colormaps

    box = _head_box(views)
    sizes = [s.stop - s.start for s in box]
    margins = [_margins(n, mm) for n, mm in zip(sizes, views.grid.spacing, strict=True)]
    colours = colormaps["inferno"](np.linspace(0, 1, _ERROR_GRAIN.levels + 1))[:, :3]
    return {
        **_pictures(report, views, lambda image: np.pad(image[box].astype(np.float32), margins)),
        "mark": WATERMARK,
        "shape": [low + n + high for n, (low, high) in zip(sizes, margins, strict=True)],
        "margins": [low for low, _ in margins],
        "sizes": sizes,
        "first": [s.start for s in box],
        "grid": list(views.grid.shape),
        "spacing": list(views.grid.spacing),
        "start": list(views.centre()),
        "headroom": _HEADROOM,
        "colours": (colours * 255).round().astype(int).tolist(),
    }


def _pictures(report: FusionReport, views: Views, cut: Callable[[Image], NDArray[np.float32]]) -> dict[str, object]:
    """``acquired`` and ``made``, all together within `LIMIT`; smooth ones first, since they leave room to the others."""
    errors = [_packed(cut(views.errors[t.modality]), ERROR_TOP, _ERROR_GRAIN) for t in report.targets]
    left, waiting = LIMIT - sum(len(e["data"]) for e in errors), len(report.targets) + len(views.inputs)

    def fitted(image: Image) -> _Packed:
        nonlocal left, waiting
        picture, top = cut(image), _HEADROOM * views.window(image)
        tries = (_packed(picture, top, grain) for grain in _GRAINS)
        packed = next((p for p in tries if len(p["data"]) <= left / waiting), None) or _packed(picture, top, _GRAINS[-1])
        left, waiting = left - len(packed["data"]), waiting - 1
        return packed

    said = [{"name": t.modality.value, "words": in_words(t), "quality": t.slice_quality} for t in report.targets]
    made = [{**s, **fitted(views.targets[t.modality]), "error": e} for t, s, e in zip(report.targets, said, errors, strict=True)]
    return {"made": made, "acquired": [{"name": m.value, **fitted(a)} for m, a in views.inputs.items()]}


def _packed(image: NDArray[np.float32], top: float, grain: Grain) -> _Packed:
    """(I, J, K) -> deflated bytes, i fastest; a byte is a level less the mean of its neighbours at i-1, j-1 and k-1."""
    levels = np.clip(np.rint(_coarser(image, grain.step) * (grain.levels / top)), 0, grain.levels)
    q = np.pad(levels.T.astype(np.int16), ((1, 0), (1, 0), (1, 0)))
    rest = q[1:, 1:, 1:] - (q[1:, 1:, :-1] + q[1:, :-1, 1:] + q[:-1, 1:, 1:]) // 3
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)  # on what is mostly noise a tenth smaller, and ten times as fast
    data = deflate.compress(rest.astype(np.uint8).tobytes()) + deflate.flush()  # bytes count modulo 256
    return {"levels": grain.levels, "step": grain.step, "data": base64.b64encode(data).decode("ascii")}


def _coarser(image: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Means of `step` x `step` voxels in plane."""
    i, j, k = image.shape
    mean: NDArray[np.float32] = image.reshape(i // step, step, j // step, step, k).mean((1, 3))
    return mean


def _margins(count: int, spacing: float) -> tuple[int, int]:
    """Voxels before and after `count`; their sum is even, so that every step divides it."""
    low = ceil(_MARGIN_MM / spacing)
    return low, low + count % 2


def _head_box(views: Views) -> tuple[slice, slice, slice]:
    spans = [np.flatnonzero(views.head.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    i, j, k = (slice(int(s[0]), int(s[-1]) + 1) if s.size else slice(0, n) for s, n in zip(spans, views.head.shape, strict=True))
    return i, j, k
