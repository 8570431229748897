"""`report.html`: one self-contained file that explains a result, offline, on paper and to a screen reader."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from medk2n_cli.core.fusion import FusionReport, InputReport, TargetReport
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series
from medk2n_cli.core.views import Views
from medk2n_cli.writing.figures import ERROR_TOP, WATERMARK, Labels, curves, error_bar, strip

_LOW_QUALITY = 0.6
_UNITS_PER_NETWORK = 1000  # an expected error as it is written beside volumes


@dataclass(frozen=True, eq=False)
class Page:
    """What a report page shows.

    Attributes:
        report: what the network decided.
        views: what to look at.
        unused: series of the study that were not used.
        provenance: (name, value) pairs, in order.
        audits: rows of an audit, as `audit.AuditRow.to_dict` gives them; empty where none was asked for.
        heading: of the page.
        measured: the error shown is the measured one, not the expected one.
        viewer: name of a file beside the page to scroll through the same pictures; empty where there is none.
    """

    report: FusionReport
    views: Views
    unused: tuple[Series, ...]
    provenance: tuple[tuple[str, str], ...]
    audits: tuple[Mapping[str, object], ...] = ()
    heading: str = ""
    measured: bool = False
    viewer: str = ""


def write_page(file: Path, page: Page) -> Path:
    """Render to `file`.

    Raises:
        OSError: it cannot be written.
    """
    report = page.report
    environment = Environment(loader=PackageLoader("medk2n_cli.writing"), autoescape=True, undefined=StrictUndefined)
    names = ", ".join(t.modality.value for t in report.targets)
    sources = [i.modality for i in report.inputs]
    file.write_text(
        environment.get_template("report.html").render(
            title=page.heading or f"Synthetic {names}",
            subtitle=f"Made by medk2n with Med-K2N weights {report.model.name} {report.model.version} from "
            + ", ".join(m.value for m in sources)
            + ". Research use only.",
            viewer=page.viewer,
            warnings=all_warnings(report),
            audits=page.audits,
            sources=[m.value for m in sources],
            targets=[_target(t, sources, page) for t in report.targets],
            inputs=[_input(i) for i in report.inputs],
            unused=[{"label": s.shown, "why": s.unused} for s in page.unused],
            provenance=page.provenance,
            error_bar=error_bar(),
            error_top=error_scale(),
            error_name="Measured" if page.measured else "Expected",
        ),
        encoding="utf-8",
    )
    return file


def _target(target: TargetReport, sources: Sequence[Modality], page: Page) -> dict[str, object]:
    cells = {c.source: c for c in target.contributions}
    name, error = target.modality.value, "measured error" if page.measured else "expected error"
    return {
        "name": name,
        "heading": f"Synthetic {name}",
        "quality": target.quality,
        "cells": [cells.get(m) for m in sources],
        "words": in_words(target),
        "warnings": target.warnings,
        "alt": f"{WATERMARK}. Slices through the head from below: the inputs, the synthetic {name}, and its {error}.",
        "strip": base64.b64encode(strip(page.views, target.modality, Labels(error=error))).decode("ascii"),
        "curves": curves(target) if target.slice_quality else "",
    }


def all_warnings(report: FusionReport) -> list[str]:
    """Of the study, then of each target."""
    return [*report.warnings, *(f"{t.modality.value}: {w}" for t in report.targets for w in t.warnings)]


def error_scale() -> str:
    """What the brightest colour of the overlay stands for."""
    return f"{ERROR_TOP * _UNITS_PER_NETWORK:.0f} or more (normal tissue is near 500)"


def in_words(target: TargetReport) -> str:
    """Quality, error and identity in plain words."""
    best = max(target.identity, key=lambda m: target.identity[m])
    said = f"Predicted SSIM {target.quality:.2f}; expected absolute error {target.expected_error:.0f}, {target.units}; "
    said += f"looks like {best.value} ({target.identity[best]:.2f})."
    if not target.modality.is_quantitative:
        said += f" Its brightness was multiplied by {target.level:.2f}, so that normal tissue is near 500."
    low = [k for k, q in enumerate(target.slice_quality, start=1) if q < _LOW_QUALITY]
    return said + (f" Low confidence in slices {_runs(low)} of the head." if low else "")


def _runs(numbers: Iterable[int]) -> str:
    """1, 2, 3, 7 -> ``1-3, 7``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def _input(one: InputReport) -> dict[str, str]:
    best = max(one.identity, key=lambda m: one.identity[m])
    moved = (
        f"moved {one.moved_mm:.1f} mm, turned {one.rotated_deg:.1f}°" if one.registration == "registered" else one.registration
    )
    return {
        "modality": one.modality.value,
        "source": one.source,
        "evidence": one.evidence,
        "looks": f"{best.value} ({one.identity[best]:.2f})",
        "placement": f"{moved}; {one.normalisation}",
    }
