"""`medk2n compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medk2n_cli.checking.compare import Comparison, compare
from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.modality import Modality
from medk2n_cli.writing.folder import open_folder, unwritable
from medk2n_cli.writing.report import write_json
from medk2n_cli.writing.result import commit_with_manifest

_SCHEMA = "medk2n.comparison/1"


def compare_images(a: Path, b: Path, modality: str, out: Path | None, overwrite: bool) -> dict[str, Any]:
    """B against A; with `out`, pictures of the differences and the numbers as a file.

    Raises:
        Medk2nError: nothing in common, unreadable, not the same place, or not writable.
    """
    found = compare(a, b, Modality.parse(modality) if modality else None)
    data: dict[str, Any] = {"schema": _SCHEMA, "synthetic": True, "comparisons": [c.to_dict() for c in found]}
    if out is not None:
        with open_folder(out, overwrite, "comparison") as folder:
            try:
                for one in found:
                    (folder.staging / f"synth_difference_{one.modality.value}.jpg").write_bytes(_picture(one))
                write_json(folder.staging / "compare.json", data)
            except OSError as failure:
                raise unwritable(out, failure) from failure
            commit_with_manifest(folder, {"kind": "comparison", "status": "done"})
        data["out"] = str(out)
    return data


def _picture(one: Comparison) -> bytes:
    from medk2n_cli.writing.figures import Labels, strip  # matplotlib costs half a second

    a, b = ("SYNTH" if p.synthetic else "acquired" for p in (one.a, one.b))
    return strip(one.views, one.modality, Labels(f"A: {a}", f"B: {b}", "absolute difference"))


def show_comparison(data: Mapping[str, Any]) -> None:
    """One line per modality, B against A."""
    rows = []
    for c in data["comparisons"]:
        h, w = c["as_is"], c["windowed"]
        grid = "same" if c["same_grid"] else "resampled"
        numbers = (f"{h['r2']:.3f}", f"{w['r2']:.3f}", f"{h['psnr']:.1f}", f"{h['ssim']:.3f}")
        rows.append((c["modality"], grid, *numbers, f"{c['mean_difference']:.1f}", f"{c['largest_difference']:.0f}"))
    columns = ("contrast", "grid", "R2", "R2 windowed", "PSNR dB", "SSIM", "mean diff", "largest")
    console().print(table("B AGAINST A", columns, rows, right=range(2, 8)))
    for c in data["comparisons"]:
        words = ", ".join(
            f"{side.upper()}: {c[side]['what']} ({'synthetic' if c[side]['synthetic'] else 'acquired'})" for side in "ab"
        )
        console().print(f"{c['modality']}: {words}", markup=False)
    if "out" in data:
        console().print(f"written to {data['out']}: synth_difference_*.jpg, compare.json", markup=False)
