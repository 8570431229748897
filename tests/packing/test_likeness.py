from __future__ import annotations

import numpy as np
import pytest

from medk2n_cli.packing.likeness import protocol_h, protocol_w, ssim_by_slice, ssim_map

RNG = np.random.default_rng(0)
TRUTH = RNG.random((4, 40, 36)).astype(np.float32)
HEAD = np.ones(TRUTH.shape, bool)


def test_the_truth_itself_is_perfect_and_its_mean_is_worth_nothing() -> None:
    same = protocol_h(TRUTH, TRUTH, HEAD)
    assert (same.r2, same.ssim, same.nmae) == (1, pytest.approx(1), 0)
    mean = np.full_like(TRUTH, TRUTH.mean())
    assert protocol_h(mean, TRUTH, HEAD).r2 == pytest.approx(0, abs=1e-5)


def test_a_window_set_by_the_reader_is_forgiven_under_w_alone() -> None:
    dimmed = TRUTH * 0.5 + 0.2
    assert protocol_h(dimmed, TRUTH, HEAD).r2 < 0.8
    assert protocol_w(dimmed, TRUTH, HEAD).r2 == pytest.approx(1, abs=1e-5)


def test_ssim_agrees_with_its_definition_voxel_by_voxel() -> None:
    a, b = TRUTH[0], TRUTH[1]
    answer = ssim_map(a, b, 1.0)
    for row, column in ((0, 0), (20, 20), (39, 3)):
        window = np.s_[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        x, y = a[window].astype(float), b[window].astype(float)
        cov = ((x - x.mean()) * (y - y.mean())).mean()
        c1, c2 = 0.01**2, 0.03**2
        expected = (
            (2 * x.mean() * y.mean() + c1) * (2 * cov + c2) / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2))
        )
        assert answer[row, column] == pytest.approx(expected, rel=1e-6)


def test_it_is_the_ssim_that_the_quality_head_was_trained_on() -> None:
    torch = pytest.importorskip("torch")
    from medk2n_cli.training.losses import ssim_map as trained_on

    a, b = TRUTH[0], TRUTH[1]
    assert np.allclose(ssim_map(a, b, 1.0), trained_on(torch.from_numpy(a), torch.from_numpy(b), 1.0).numpy(), atol=1e-4)


def test_a_slice_with_hardly_any_head_has_no_ssim() -> None:
    head = HEAD.copy()
    head[2] = False
    head[2, :10, :10] = True
    means = ssim_by_slice(TRUTH, TRUTH, head, 1.0)
    assert np.isnan(means[2])
    assert means[1] == pytest.approx(1)
