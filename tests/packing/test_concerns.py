from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medk2n_cli.aligning.align import align
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume
from medk2n_cli.model.store import find
from medk2n_cli.packing.concerns import Recorded, concerns
from medk2n_cli.packing.pack import pack
from medk2n_cli.reading.scan import load, scan
from tests import phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY

T1, T1C, T2, FLAIR, DWI, ADC = Modality
LIMITS = find(str(TINY)).card.input_limits


def codes(volumes: dict[Modality, Volume]) -> set[str]:
    study = align(volumes)
    return {c.code for c in concerns({m: Recorded.of(v) for m, v in volumes.items()}, study, pack(study).scales, LIMITS)}


def head(grid: Grid, noise: float = 0.0, **volume: object) -> dict[Modality, Volume]:
    array = phantom.volume(T1, grid, **volume)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return {T1: Volume(np.abs(array + rng.normal(0, noise, grid.shape)).astype(np.float32), grid)}


def cropped(grid: Grid, low: tuple[int, int, int], high: tuple[int, int, int]) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_lps(np.array(low, float))
    shape = tuple(n - a - b for n, a, b in zip(grid.shape, low, high, strict=True))
    return Grid((shape[0], shape[1], shape[2]), affine)


FINE = phantom.axial((1.5, 1.5, 4.0))


def test_an_ordinary_head_raises_no_concern() -> None:
    assert codes(head(FINE)) == set()


def test_real_studies_raise_no_concern(open_ms: Path) -> None:
    for name in ("longitudinal_04_study1", "cross_sectional_19"):
        assert codes(load(scan([open_ms / name]).chosen())) == set()


@pytest.mark.parametrize(
    ("code", "volumes"),
    [
        ("slice_mm", head(phantom.axial((1.5, 1.5, 11.0)))),
        ("in_plane_mm", head(phantom.axial((3.0, 3.0, 4.0)))),
        ("noise", head(FINE, noise=200.0)),
        ("cut_in_plane", head(cropped(FINE, (0, 40, 0), (0, 0, 0)))),
        ("cut_on_top", head(cropped(FINE, (0, 0, 0), (0, 0, 20)))),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_training_never_saw_is_named(code: str, volumes: dict[Modality, Volume]) -> None:
    assert code in codes(volumes)


def test_noise_is_measured_as_it_was_added() -> None:
    grid = FINE
    for sigma in (60.0, 120.0):
        volumes = head(grid, noise=sigma)
        study = align(volumes)
        scales = pack(study).scales
        found = concerns({m: Recorded.of(v) for m, v in volumes.items()}, study, scales, {"noise": [-2, -1]})
        (told,) = [c for c in found if c.code == "noise"]
        assert told.value / scales[T1].gain == pytest.approx(np.hypot(sigma, 6), rel=0.15)


def test_strict_refuses_what_is_else_a_warning(tmp_path: Path) -> None:
    grid = phantom.axial((3.0, 3.0, 11.0))
    phantom.write_study(tmp_path / "s", (T1, T2), grid)
    words = ["synthesize", "--in", tmp_path / "s", "--want", "FLAIR", "--out", tmp_path / "o", "--weights", TINY]
    done = medk2n(*words)
    assert done.returncode == 0
    assert "its slices are 11.0 mm apart; the weights were trained for 0.5 to 8.5" in " ".join(done.stdout.split())
    error = failed(medk2n(*words, "--overwrite", "--strict", "--json"), 3)
    assert error["code"] == "UNLIKE_TRAINING"
    assert "T1: its pixels are 3.00 mm wide" in error["problem"]
    assert "more)" in error["problem"]
