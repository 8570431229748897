from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.reading.scan import scan  # noqa: E402
from medk2n_cli.training.dataset import SimulatedPool  # noqa: E402
from medk2n_cli.training.simulate.anatomy import HeadTensors  # noqa: E402
from medk2n_cli.training.simulate.draw import Draw, Fullness, Scalp, draw_study  # noqa: E402
from medk2n_cli.training.simulate.heads import Head, load_heads  # noqa: E402
from medk2n_cli.training.simulate.render import Window, render  # noqa: E402
from medk2n_cli.training.simulate.sequence import COLUMNS, Sequence, TissueMaps, signal  # noqa: E402
from medk2n_cli.training.simulate.studies import write_study  # noqa: E402
from medk2n_cli.training.simulate.tissue import CLASS, TISSUES, Tissue  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

T1, T1C, T2, FLAIR, DWI, ADC = Modality
WINDOW = Window((0.0, 0.0, 5.0), (64, 80), 3)


@pytest.fixture(scope="module")
def head() -> Head:
    return formula_head()


def plain(head: Head, seed: int = 3) -> Draw:
    """A draw without lesions, deformation or pose."""
    draw = draw_study(head, seed)
    return replace(
        draw, lesions=(), fullness=Fullness(), elastic=np.zeros_like(draw.elastic), pose=np.eye(3, dtype=np.float32), spacing=1.0
    )


def maps(*tissues: Tissue) -> TissueMaps:
    return TissueMaps(*(torch.tensor([float(getattr(t, column)) for t in tissues]) for column in COLUMNS))


def test_the_same_seed_gives_the_same_study(head: Head) -> None:
    tensors = HeadTensors.of(head, torch.device("cpu"))
    one, other = (render(tensors, draw_study(head, 5), WINDOW, list(Modality)) for _ in range(2))
    different = render(tensors, draw_study(head, 6), WINDOW, list(Modality))
    for modality in Modality:
        assert torch.equal(one.acquired[modality], other.acquired[modality])
        assert not torch.equal(one.acquired[modality], different.acquired[modality])


def test_contrasts_look_as_radiologists_describe_them(head: Head) -> None:
    made = render(HeadTensors.of(head, torch.device("cpu")), plain(head), WINDOW, list(Modality)).clean
    ventricle, white = (32, 40), (32, 40 + 26)
    bright = {m: float(made[m][1][ventricle]) - float(made[m][1][white]) for m in Modality}
    assert bright[T1] < 0
    assert bright[T2] > 0
    assert bright[FLAIR] < 0
    assert bright[DWI] < 0
    assert bright[ADC] > 0


def test_flair_nulls_water_and_an_agent_brightens_t1() -> None:
    water, rim = TISSUES[CLASS["ventricular CSF"]], TISSUES[CLASS["enhancing rim"]]
    tissue = maps(water, rim)
    null = 4000 * np.log(2 / (1 + np.exp(-9000 / 4000)))
    flair = signal(Sequence("IR", tr=9000, te=120, ti=float(null)), tissue)
    assert float(flair[0]) < 0.05 * float(flair[1])
    before, after = (signal(Sequence("SE", tr=500, te=10, dose=d), tissue) for d in (0.0, 0.5))
    assert float(after[1]) > 1.2 * float(before[1])
    assert float(after[0]) == pytest.approx(float(before[0]), rel=1e-5)


@pytest.mark.parametrize(("kind", "dwi", "adc"), [("acute stroke", 1, -1), ("old stroke", -1, 1)])
def test_a_stroke_shows_as_strokes_do(head: Head, kind: str, dwi: int, adc: int) -> None:
    from medk2n_cli.training.simulate.draw import Lesion

    centre = tuple(float(v) for v in np.mean(head.brain_box, axis=0) + np.array([26, 0, 5]))
    lesion = Lesion((centre[0], centre[1], centre[2]), (9.0, 9.0, 9.0), ((kind, 1.0),), 0.0)
    tensors = HeadTensors.of(head, torch.device("cpu"))
    healthy, ill = (render(tensors, replace(plain(head), lesions=le), WINDOW, [DWI, ADC]) for le in ((), (lesion,)))
    where = ill.lesion[1] == CLASS[kind]
    assert int(where.sum()) > 50
    assert not bool(healthy.lesion.any())
    for modality, sign in ((DWI, dwi), (ADC, adc)):
        change = (ill.clean[modality][1][where] - healthy.clean[modality][1][where]).mean()
        assert sign * float(change) > 0.02


def test_a_stripped_head_has_no_skin(head: Head) -> None:
    tensors = HeadTensors.of(head, torch.device("cpu"))
    window = Window((0.0, 0.0, 5.0), (176, 144), 1)
    whole, stripped = (render(tensors, replace(plain(head), strip_mm=s), window, [T1]) for s in (None, 1))
    assert int(stripped.head.sum()) < 0.9 * int(whole.head.sum())
    assert float(stripped.acquired[T1][~stripped.head].abs().max()) == 0


def test_a_full_brain_has_less_fluid_and_keeps_its_outline(head: Head) -> None:
    tensors = HeadTensors.of(head, torch.device("cpu"))
    window = Window((0.0, 0.0, 5.0), (176, 144), 1)
    wide, full = (
        render(tensors, replace(plain(head), strip_mm=None, fullness=f), window, [T2, ADC])
        for f in (Fullness(), Fullness(sulci=0.8, ventricles=2))
    )
    assert torch.equal(wide.head, full.head)
    fluid = [int((made.clean[ADC] > 1.2).sum()) for made in (wide, full)]
    assert fluid[1] < 0.9 * fluid[0]


def test_a_thicker_scalp_is_dark_skin_over_bright_fat_and_leaves_the_brain_alone(head: Head) -> None:
    tensors = HeadTensors.of(head, torch.device("cpu"))
    draw = replace(plain(head), strip_mm=None)
    thin, thick, masked = (
        render(tensors, replace(draw, scalp=s), Window((0.0, 0.0, 5.0), (224, 176), 1), [T1])
        for s in (Scalp(), Scalp(fat=4, skin=2), Scalp(fat=4, skin=2, air=2))
    )
    row = 224 // 2
    edge, grown, mask = (int(torch.nonzero(made.head[0, row])[0]) for made in (thin, thick, masked))
    assert 4 <= edge - grown <= 6, "a round head grows a little more aslant"
    assert 2 <= grown - mask <= 3
    fat, skin, air = (float(masked.clean[T1][0, row, at]) for at in (edge, grown + 1, mask))
    assert air == 0
    assert air < skin < 0.7 * fat
    brain = slice(edge + 20, 88)
    assert torch.equal(thin.clean[T1][0, row, brain], masked.clean[T1][0, row, brain])


def test_studies_differ_in_their_scalps(head: Head) -> None:
    drawn = {draw_study(head, seed).scalp for seed in range(40)}
    assert len(drawn) > 15
    assert {s.fat for s in drawn} == set(range(6))


def test_fat_suppression_darkens_the_scalp_alone() -> None:
    skin, white = TISSUES[CLASS["skin and fat"]], TISSUES[CLASS["white matter"]]
    tissue = maps(skin, white)
    plain_echo, suppressed = (signal(Sequence("SE", tr=4000, te=90, fat=f), tissue) for f in (1.0, 0.1))
    assert float(suppressed[0]) < 0.3 * float(plain_echo[0])
    assert float(suppressed[1]) == float(plain_echo[1])


def test_magnetisation_transfer_darkens_white_matter_more_than_grey_and_fluid_not_at_all() -> None:
    tissue = maps(*(TISSUES[CLASS[name]] for name in ("white matter", "cortex", "ventricular CSF")))
    without, with_it = (signal(Sequence("SE", tr=4000, te=90, transfer=share), tissue) for share in (0.0, 0.2))
    white, grey, fluid = (with_it / without).tolist()
    assert white == pytest.approx(0.8)
    assert white < grey < fluid == 1


def test_grey_matter_is_brighter_than_white_in_flair_and_water_dark_in_nearly_all_protocols(head: Head) -> None:
    white, grey, water = [], [], []
    for seed in range(200):
        draw = draw_study(head, seed)
        values = signal(draw.acquisitions[FLAIR].sequence, TissueMaps(*torch.from_numpy(draw.tissue).T))
        for found, name in ((white, "white matter"), (grey, "cortex"), (water, "ventricular CSF")):
            found.append(float(values[CLASS[name]]))
    assert np.mean(np.array(grey) > np.array(white)) > 0.95
    assert np.mean(np.array(water) < 0.5 * np.array(white)) > 0.9


def test_a_written_study_is_read_by_the_tools_own_reader(head: Head, tmp_path: Path) -> None:
    folder = write_study(head, 9, tmp_path / "sim", slices=6)
    assert list(scan([folder]).chosen()) == list(Modality)
    told = json.loads((folder / "simulation.json").read_text())
    assert told["seed"] == 9
    assert set(told["sequences"]) == {m.value for m in Modality}


def test_the_real_label_maps_load(label_maps: Path, tmp_path: Path) -> None:
    loaded = load_heads(label_maps, tmp_path, names=["head_03"])[0]
    again = load_heads(label_maps, tmp_path, names=["head_03"])[0]
    assert np.array_equal(loaded.classes, again.classes)
    assert loaded.brain_box == again.brain_box
    assert {int(c) for c in np.unique(loaded.classes)} >= {CLASS["cortex"], CLASS["white matter"], CLASS["skin and fat"]}


def test_crops_are_drawn_to_lesions(head: Head) -> None:
    pool = SimulatedPool([head], (48, 48), 60, 5, torch.device("cpu"))
    pool.refresh(60)
    marked = [float(s.weight.max()) > 2 for s in pool.draw(200, np.random.default_rng(0))]
    assert np.mean(marked) > 0.2, "without being drawn to them, seven of a hundred small crops hold a lesion"
