from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.training.commands import _held_out  # noqa: E402
from medk2n_cli.training.fit import Sources, fit  # noqa: E402
from medk2n_cli.training.prepare import bundle, prepare, prepare_all  # noqa: E402
from medk2n_cli.training.recipe import Recipe  # noqa: E402
from medk2n_cli.training.simulate.heads import store_head  # noqa: E402
from tests import phantom  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def lay_out(root: Path) -> Path:
    """One study each as BraTS 2023, ISLES 2022 and BIDS lay them out, the last without T2."""
    glioma = root / "brats" / "BraTS-GLI-00005-000" / "BraTS-GLI-00005-000"
    stroke = root / "isles" / "sub-strokecase0001" / "ses-0001"
    names = {
        T1: f"{glioma}-t1n.nii.gz",
        T1C: f"{glioma}-t1c.nii.gz",
        T2: f"{glioma}-t2w.nii.gz",
        FLAIR: f"{glioma}-t2f.nii.gz",
    }
    strokes = {
        FLAIR: stroke / "anat" / "sub-strokecase0001_ses-0001_FLAIR.nii.gz",
        DWI: stroke / "dwi" / "sub-strokecase0001_ses-0001_dwi.nii.gz",
        ADC: stroke / "dwi" / "sub-strokecase0001_ses-0001_adc.nii.gz",
    }
    anat = root / "bids" / "sub-01" / "anat"
    plain = {T1: anat / "sub-01_T1w.nii.gz", FLAIR: anat / "sub-01_FLAIR.nii.gz"}
    for files in (names, strokes, plain):
        for modality, file in files.items():
            phantom.write(Path(file), phantom.volume(modality, phantom.axial()), phantom.axial())
    return root


def test_common_layouts_are_found_and_named_by_subject(tmp_path: Path) -> None:
    files = prepare_all([lay_out(tmp_path / "data")], tmp_path / "cache", ["sub-02"])  # not there: evaluation asks so
    found = {f.stem: [list(Modality)[s] for s in np.load(f)["slots"]] for f in files}
    assert found == {
        "BraTS-GLI-00005-000": [T1, T1C, T2, FLAIR],
        "sub-strokecase0001_ses-0001": [FLAIR, DWI, ADC],
        "sub-01": [T1, FLAIR],
    }


def test_held_out_studies_are_left_out(tmp_path: Path) -> None:
    files = prepare_all([lay_out(tmp_path / "data") / "isles"], tmp_path / "cache", ["sub-strokecase0001_ses-0001"])
    assert files == ()


def test_a_slip_in_the_name_of_what_is_held_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no study is called sub-1: .*there are: .*sub-01"):
        prepare_all([lay_out(tmp_path / "data")], tmp_path / "cache", ["sub-1"], must_exist=True)
    assert _held_out(Namespace(hold_out="sub-01, sub-02 ,")) == ("sub-01", "sub-02")


def test_fine_tuning_on_a_folder_of_studies(tmp_path: Path) -> None:
    studies = prepare_all([lay_out(tmp_path / "data")], tmp_path / "cache", [])
    (tmp_path / "head_01.nii.gz").write_bytes(b"prepared already")
    store_head(formula_head("head_01"), tmp_path / "head_01.npz")
    recipe = Recipe(steps=4, batch=2, crop=(48, 48), whole=(64, 64), pool=8, warm_steps=1, real_share=1.0)
    file = fit(recipe, Sources(tmp_path, tmp_path, studies), tmp_path / "tuned.safetensors", resume=False)
    assert file.exists()


def test_a_bundle_is_all_that_training_needs(tmp_path: Path) -> None:
    studies = prepare_all([lay_out(tmp_path / "data")], tmp_path / "cache", ["sub-01"])
    (tmp_path / "head_01.nii.gz").write_bytes(b"prepared already")
    store_head(formula_head("head_01"), tmp_path / "head_01.npz")
    made = bundle(tmp_path, tmp_path, studies, tmp_path / "bundle")
    assert prepare_all([bundle(tmp_path, tmp_path, (), tmp_path / "bare") / "studies"], tmp_path, ()) == ()
    recipe = Recipe(steps=2, batch=2, crop=(48, 48), whole=(64, 64), pool=8)
    packed = prepare_all([made / "studies"], tmp_path / "unused", ["sub-01"], must_exist=True)  # the same --hold-out again
    assert {f.stem for f in packed} == {"BraTS-GLI-00005-000", "sub-strokecase0001_ses-0001"}
    assert fit(recipe, Sources(made / "heads", tmp_path / "unused", packed), tmp_path / "run.safetensors", resume=False).exists()
    assert not (tmp_path / "unused").exists()
    whole, small = (
        np.load(f / "BraTS-GLI-00005-000.npz")["images"].astype(float) for f in (tmp_path / "cache", made / "studies")
    )
    assert np.abs(whole - small).max() <= 1 / 1024 + 1e-3


def test_a_mask_of_lesions_comes_along_and_draws_training_to_them(tmp_path: Path) -> None:
    from medk2n_cli.training.dataset import LESION_WEIGHT, PackedStudy, RealStudies

    grid = phantom.axial((2.0, 2.0, 6.0))
    for name in ("healthy", "ill"):
        phantom.write_study(tmp_path / name, (Modality.T1, Modality.FLAIR), grid)
    lps = phantom.points(grid)
    phantom.write(tmp_path / "ill" / "lesions.nii.gz", (np.linalg.norm(lps - [20, 10, 10], axis=-1) < 8).astype(np.uint8), grid)
    healthy, ill = (PackedStudy.load(prepare(tmp_path / name, tmp_path / "packed")) for name in ("healthy", "ill"))
    assert not healthy.lesion.any()
    volume_mm3 = float(ill.lesion.sum()) * 6
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.25)
    assert not (ill.lesion & ~ill.head).any()
    chance = np.random.default_rng(0)
    samples = RealStudies([ill], (48, 48)).draw(60, chance)
    seen = sum(bool((s.weight > 1.5).any()) for s in samples)
    assert seen > 12, "a lesion is looked at far more often than by chance"
    assert max(float(s.weight.max()) for s in samples) == pytest.approx(LESION_WEIGHT, rel=0.01)
    assert torch.isfinite(torch.stack([s.weight for s in samples])).all()
    assert all(float(s.weight.max()) <= 1 for s in RealStudies([healthy], (48, 48)).draw(10, chance))
