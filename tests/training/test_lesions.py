from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.training import lesions  # noqa: E402
from medk2n_cli.training.lesions import LesionRow, best_dice, contrasts, invented_ml, simulated_cases  # noqa: E402
from medk2n_cli.training.network import MedK2N, Size  # noqa: E402
from medk2n_cli.training.simulate.draw import Draw  # noqa: E402
from medk2n_cli.training.simulate.render import render  # noqa: E402
from medk2n_cli.training.text import text_vectors  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)
T1, T1C, T2, FLAIR, DWI, ADC = Modality


def picture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """White matter of 0.5 with one lesion of 0.8 and one of 0.7."""
    image, head = np.full((6, 64, 64), 0.5, np.float32), np.ones((6, 64, 64), bool)
    mask = np.zeros_like(head)
    mask[2:4, 10:16, 10:16] = mask[3, 40:50, 40:50] = True
    image[2:4, 10:16, 10:16], image[3, 40:50, 40:50] = 0.8, 0.7
    return image, mask, head


def test_contrast_is_measured_against_the_surroundings_of_each_lesion() -> None:
    image, mask, head = picture()
    faded = np.where(mask, 0.5 + (image - 0.5) / 2, image).astype(np.float32)
    found = sorted(contrasts(image, faded, mask, head, 2.0))
    assert [mm3 for mm3, _, _ in found] == [144.0, 200.0]
    assert [real for _, real, _ in found] == pytest.approx([0.6, 0.4], abs=1e-5)
    assert [made / real for _, real, made in found] == pytest.approx([0.5, 0.5], abs=1e-5)


def test_lesions_nobody_could_see_are_not_counted_as_lost() -> None:
    image, mask, head = picture()
    flat = np.full_like(image, 0.5)
    assert contrasts(flat, image, mask, head, 2.0) == []


def test_the_best_threshold_finds_bright_lesions_and_no_dark_ones() -> None:
    image, mask, head = picture()
    assert best_dice(image, mask, head) > 0.95
    assert best_dice(1 - image, mask, head) < 0.2


def test_hyperintensity_that_the_truth_lacks_is_invented() -> None:
    case = simulated_cases([formula_head()], "healthy", 1)[0]
    truth = case.truth[FLAIR]
    assert not case.lesions.any()
    for spots, ml in ((truth, 0.0), (np.where(spot(truth.shape), 1.9, truth), 10 * 10 * 5 * 2.0 / 1000)):
        assert invented_ml(spots, case, FLAIR, case.head) == pytest.approx(ml, rel=0.05)
    assert invented_ml(spots, case, FLAIR, ~spot(truth.shape)) == 0, "only where it is asked for"
    assert 0 < case.white.sum() < case.head.sum()


def test_cortex_that_a_coil_dims_in_the_acquired_image_is_not_invented() -> None:
    case = simulated_cases([formula_head()], "healthy", 1)[0]
    healthy = np.where(spot(case.head.shape), 1.2, case.truth[FLAIR]).astype(np.float32)  # bright, but truly so
    dimmed = replace(case, images={**case.images, FLAIR: healthy * 0.5}, truth={**case.truth, FLAIR: healthy})
    assert invented_ml(healthy, dimmed, FLAIR, case.head) == 0


def spot(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[10:15, 100:110, 90:100] = True
    return mask


def test_tumours_are_measured_in_every_subset() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    case = simulated_cases([formula_head()], "tumour", 1)[0]
    assert case.lesions.any()
    assert set(case.images) == {T1, T1C, T2, FLAIR}
    rows, dice = lesions.measure(network, case)
    assert {r.target for r in rows} == {"FLAIR", "T2"}
    assert len(dice) == 7
    told = lesions.summary(rows, dice, [])
    assert told["subjects"]["tumour"] == ["tumour 0"]
    assert set(told["contrast_kept"]) == {f"{kind} in {t}" for kind in ("tumour", "tumour's oedema") for t in ("FLAIR", "T2")}


def test_whoever_answers_the_truth_keeps_every_lesion_whatever_noise_was_acquired(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MedK2N(TINY, text_vectors()).eval()
    case = simulated_cases([formula_head()], "tumour", 1)[0]
    assert not np.allclose(case.images[FLAIR], case.truth[FLAIR])
    monkeypatch.setattr(lesions._Case, "make", lambda self, network, have, target: self.truth[target])
    rows, _ = lesions.measure(network, case)
    assert [r.kept for r in rows] == pytest.approx([1.0] * len(rows))
    core = case.lesions & ~case.parts["tumour's oedema"]
    assert core.any()
    bright = {m: np.where(core, 1.9, image).astype(np.float32) for m, image in case.truth.items()}
    beside, _ = lesions.measure(network, replace(case, truth=bright))

    def of_oedema(found: list[LesionRow]) -> list[float]:
        return [r.real for r in found if r.kind == "tumour's oedema"]

    assert of_oedema(beside) == of_oedema(rows) != []


def test_medians_are_told_by_size() -> None:
    rows = [LesionRow("a", ("T1",), "FLAIR", "MS lesion", mm3, 0.5, made) for mm3, made in ((50, 0.1), (60, 0.2), (600, 0.4))]
    told = lesions.summary(rows, [], [])["contrast_kept"]["MS lesion in FLAIR"]
    assert told == {"median": 0.4, "lesions": 3, "by_inputs": {"T1": 0.4}, "20-100 mm3": 0.3, "over 500 mm3": 0.8}


def test_what_is_invented_is_told_for_every_subset_of_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MedK2N(TINY, text_vectors()).eval()
    case = simulated_cases([formula_head()], "healthy", 1)[0]
    truth = case.truth[FLAIR]
    bright = np.where(spot(truth.shape), 1.9, truth)
    monkeypatch.setattr(lesions._Case, "make", lambda self, network, have, target: bright if have == (T1C,) else truth)
    found = lesions.invented(network, case)
    assert len(found) == 7
    told = lesions.summary([], [], found)["invented_ml_in_healthy_heads"]
    assert (told["heads"], told["median"], told["max"]) == (1, 0.0, pytest.approx(1.0, rel=0.05))
    assert told["mean_by_inputs"]["T1C"] == told["max"]
    assert told["mean_by_inputs"]["T1+T2"] == 0


def test_a_study_without_a_mask_has_no_dice() -> None:
    torch.manual_seed(0)
    network = MedK2N(TINY, text_vectors()).eval()
    case = simulated_cases([formula_head()], "healthy", 1)[0]
    assert lesions.measure(network, case) == ([], [])


def test_simulated_slices_are_as_thick_as_they_are_apart() -> None:
    drawn = []

    def spy(head: object, draw: Draw, *rest: object) -> object:
        drawn.append(draw)
        return render(head, draw, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesions, "render", spy)
        simulated_cases([formula_head()], "healthy", 2)
    assert {a.thickness for draw in drawn for a in draw.acquisitions.values()} == {2.0}
