"""Real crops: where lesions come to lie in them, and who counts as another subject."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the training room needs torch")

import numpy as np  # noqa: E402

from medk2n_cli.training.dataset import PackedStudy, RealStudies, _bent, _turned  # noqa: E402
from medk2n_cli.training.refusal import Refusal  # noqa: E402


def study(name: str, value: float) -> PackedStudy:
    """A flat brain of that value with one small lesion in its middle."""
    head, lesion = torch.ones(5, 192, 192, dtype=torch.bool), torch.zeros(5, 192, 192, dtype=torch.bool)
    lesion[2, 95:98, 95:98] = True
    return PackedStudy(name, torch.full((2, 5, 192, 192), value).half(), (0, 3), head, lesion, True, head)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("longitudinal_01_study2", "longitudinal_01"),
        ("P39_tp1", "P39"),
        ("sub-07_ses-0001", "sub-07"),
        ("cross_sectional_19", "cross_sectional_19"),
        ("105074", "105074"),
        ("BraTS-GLI-00005-001", "BraTS-GLI-00005"),
        ("my_study_01", "my_study_01"),
        ("ucsf_tpl_3", "ucsf_tpl_3"),
    ],
)
def test_visits_of_one_patient_are_known_by_their_names(name: str, patient: str) -> None:
    assert study(name, 0.5).patient == patient


def test_another_subject_is_never_another_visit_of_the_same_patient() -> None:
    studies = RealStudies([study("a_study1", 0.25), study("a_study2", 0.5), study("b_study1", 0.75)], (96, 96))
    chance = np.random.default_rng(0)
    for _ in range(20):
        for sample in studies.draw(2, chance):
            own, other = float(sample.acquired[0, 1, 40:50, 40:50].mean()), float(sample.stranger[0, 1].mean())
            assert (other == pytest.approx(0.75)) == (own < 0.65)


def test_lesions_lie_anywhere_in_a_crop_and_not_in_its_middle() -> None:
    studies = RealStudies([study("a", 0.5)], (96, 96))
    found = [torch.nonzero(s.weight > 1).float().mean(0) for s in studies.draw(200, np.random.default_rng(1))]
    places = torch.stack([place for place in found if torch.isfinite(place).all()])
    assert len(places) > 60, "half of the crops are drawn to lesions"
    assert float((places - 48).abs().amax(1).gt(8).float().mean()) > 0.5


def test_studies_that_an_older_version_prepared_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.npz"
    np.savez(file, images=np.zeros((2, 1, 16, 16), np.float16), slots=[0, 1], head=np.ones((1, 16, 16), bool), stripped=True)
    with pytest.raises(Refusal, match="older version"):
        PackedStudy.load(file)


def test_half_of_the_crops_are_mirrored_masks_and_all() -> None:
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8)
    masks = (images[:, 0] > 40).float()
    mirrored = kept = 0
    for seed in range(60):
        moved, with_it = _turned(images, masks, np.random.default_rng(seed))
        if torch.equal(moved, images.flip(-1)):
            assert torch.equal(with_it, masks.flip(-1))
            mirrored += 1
        elif torch.equal(moved, images):
            assert torch.equal(with_it, masks)
            kept += 1
    assert mirrored > 5
    assert kept > 5, "the others are turned"


def test_a_bent_contrast_stays_where_normalisation_puts_it_and_rises() -> None:
    ramp = torch.linspace(0.01, 2, 200).expand(3, 1, 1, 200).clone()
    ramp[..., 0], ramp[..., 1] = 0.1, 0.5
    seen = [_bent(ramp, np.random.default_rng(seed)) for seed in range(20)]
    for bent in seen:
        assert torch.allclose(bent[..., :2], ramp[..., :2], atol=1e-5)
        assert (bent[..., 2:].diff(dim=-1) > 0).all()
    assert max(float((bent - ramp).abs().max()) for bent in seen) > 0.1
