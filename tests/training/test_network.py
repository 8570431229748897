from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")

import numpy as np  # noqa: E402

from medk2n_cli.core.modality import Modality  # noqa: E402
from medk2n_cli.core.tensors import ModelInput  # noqa: E402
from medk2n_cli.training import checkpoint, losses  # noqa: E402
from medk2n_cli.training.corrupt import KINDS, corrupt  # noqa: E402
from medk2n_cli.training.export import Disagreement, Measured, export  # noqa: E402
from medk2n_cli.training.fit import Sources, _Run, fit  # noqa: E402
from medk2n_cli.training.gates import predictor  # noqa: E402
from medk2n_cli.training.merge import merge  # noqa: E402
from medk2n_cli.training.metrics import protocol_h, protocol_p, protocol_w  # noqa: E402
from medk2n_cli.training.network import MedK2N, Size  # noqa: E402
from medk2n_cli.training.recipe import Recipe  # noqa: E402
from medk2n_cli.training.simulate.heads import store_head  # noqa: E402
from medk2n_cli.training.text import text_vectors  # noqa: E402
from medk2n_cli.training.twins import AverageFusion  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)


@pytest.fixture
def network() -> MedK2N:
    torch.manual_seed(0)
    made = MedK2N(TINY, text_vectors()).eval()
    with torch.no_grad():
        for head in made.taskhead.out:
            head.weight.mul_(20)
    return made


def test_text_vectors_differ_between_contrasts() -> None:
    vectors = torch.nn.functional.normalize(text_vectors(), dim=-1)
    alike = vectors @ vectors.T - torch.eye(6)
    assert vectors.shape == (6, 384)
    assert float(alike.max()) < 0.95


def test_any_subset_in_any_subset_out(network: MedK2N) -> None:
    for have, want in (([0], [1, 2, 3, 4, 5]), ([5, 0, 3], [2]), ([1, 2, 3, 4, 5], [0])):
        images = torch.rand(2, len(have), 3, 32, 48)
        out = network(
            images, torch.tensor(have), torch.tensor(want), torch.full((len(want), len(have)), -1.0), torch.full((len(want),), -1)
        )
        assert out.synthesised.shape == (2, len(want), 32, 48)
        assert out.fusion.key.sum(1).tolist() == [1.0] * len(want)
        assert bool((out.expected_error > 0).all())
        assert bool(((out.fusion.threshold >= 0.05) & (out.fusion.threshold <= 0.90)).all())
        assert bool(((out.fusion.w_eff >= 0.001) & (out.fusion.w_eff <= 0.999)).all())


def test_the_straight_through_gate_passes_gradients_to_the_threshold(network: MedK2N) -> None:
    network.train()
    have, want = torch.tensor([0, 2]), torch.tensor([3])
    out = network(torch.rand(2, 2, 3, 32, 32), have, want, torch.full((1, 2), -1.0), torch.tensor([-1]))
    out.heads.sum().backward()
    gradient = network.threshold.threshold[2].weight.grad
    assert gradient is not None
    assert float(gradient.abs().sum()) > 0


def test_every_kind_of_corruption_spoils_only_its_input() -> None:
    images, strangers = torch.rand(2, 2, 3, 48, 48), torch.rand(2, 2, 3, 48, 48)
    for kind in KINDS:
        spoiled = corrupt(kind, images, strangers, 1, torch.Generator().manual_seed(1))
        assert torch.equal(spoiled[:, 0], images[:, 0])
        assert not torch.equal(spoiled[:, 1], images[:, 1])
        assert float(spoiled.min()) >= 0
        assert float(spoiled.max()) <= 2


def test_ssim_of_an_image_with_itself_is_one() -> None:
    image = torch.rand(2, 32, 32)
    assert torch.allclose(losses.ssim_map(image, image), torch.ones_like(image), atol=1e-4)
    assert float(losses.ssim_map(image, torch.rand(2, 32, 32)).mean()) < 0.5


def test_protocols_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4, 64, 64)).astype(np.float32)
    head = np.zeros(truth.shape, bool)
    head[:, 4:60, 4:60] = True
    perfect = protocol_h(truth, truth, head)
    assert perfect.r2 == pytest.approx(1)
    assert perfect.ssim == pytest.approx(1, abs=1e-3)
    mean = np.full_like(truth, truth[head].mean())
    assert protocol_h(mean, truth, head).r2 == pytest.approx(0, abs=1e-5)
    assert protocol_h(truth * 0.5 + 0.1, truth, head).r2 < 0.9
    assert protocol_w(truth * 0.5 + 0.1, truth, head).r2 == pytest.approx(1, abs=1e-4)
    assert protocol_p(truth, truth, head)[1] == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Two prepared formula heads, as `load_heads` finds them in its cache."""
    folder = tmp_path_factory.mktemp("maps")
    for number in (1, 2):
        (folder / f"head_0{number}.nii.gz").write_bytes(b"prepared already")
        store_head(formula_head(f"head_0{number}"), folder / f"head_0{number}.npz")
    return Sources(folder, folder)


def recipe() -> Recipe:
    return Recipe(minutes=1, batch=2, crop=(48, 48), whole=(64, 64), pool=8, refresh=1, warm_steps=2)


def test_training_goes_on_where_it_stopped(sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    first = _Run(recipe(), sources, file, resume=False)
    for _ in range(6):
        first.step(0.0)
    first.save(6.0)
    second = _Run(recipe(), sources, file, resume=True)
    assert second.step_number == 6
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    moments = [s["exp_avg"] for s in second.optimiser.state_dict()["state"].values()]
    assert moments
    assert any(float(m.abs().sum()) > 0 for m in moments)
    second.step(0.99)  # the last share of a run sees whole slices
    assert second.crop == (64, 64)
    second.save(1.0)
    _, progress = checkpoint.load(file)
    assert (progress.step, progress.seconds, len(progress.history)) == (7, 7.0, 2)


def test_training_learns(sources: Sources, tmp_path: Path) -> None:
    run = _Run(recipe(), sources, tmp_path / "run.safetensors", resume=False)
    fixed = run._batch(0.0)
    torch.manual_seed(0)
    spread = []
    for _ in range(25):
        run.optimiser.zero_grad()
        loss = torch.stack(list(run._losses(fixed).values())).sum()
        loss.backward()
        run.optimiser.step()
        spread.append(float(loss.detach()))
    assert np.mean(spread[-5:]) < 0.8 * np.mean(spread[:3])


def test_a_run_ends_after_its_steps(sources: Sources, tmp_path: Path) -> None:
    file = fit(replace(recipe(), minutes=0, steps=3), sources, tmp_path / "run.safetensors", resume=False)
    assert checkpoint.load(file)[1].step == 3
    fit(replace(recipe(), minutes=0, steps=2), sources, file, resume=True)
    assert checkpoint.load(file)[1].step == 5


def test_only_the_heads_that_are_asked_for_are_trained(sources: Sources, tmp_path: Path) -> None:
    start = fit(replace(recipe(), minutes=0, steps=2), sources, tmp_path / "run.safetensors", resume=False)
    before = checkpoint.load(start)[0]
    heads = ("preweight.gain", "taskhead.quality")
    fit(replace(recipe(), minutes=0, steps=6, only=heads), sources, start, resume=True)
    after, progress = checkpoint.load(start)
    moved = {n for n in before if not n.startswith("adam.") and not torch.equal(before[n], after[n])}
    assert {n.partition(".")[0] for n in moved} == {"live", "ema"}
    names = [n.partition(".")[2] for n in moved]
    assert all(n.startswith(heads) for n in names), "neither buffers nor averages of the rest"
    assert all(any(n.startswith(head) for n in names) for head in heads)
    assert progress.history[-1]["only"] == "preweight.gain,taskhead.quality"
    with pytest.raises(ValueError, match="starts with nothing"):
        fit(replace(recipe(), minutes=0, steps=1, only=("preweight.gain", "nothing")), sources, start, resume=True)


def test_a_checkpoint_does_not_turn_into_another_kind_of_network(sources: Sources, tmp_path: Path) -> None:
    file = fit(replace(recipe(), minutes=0, steps=1), sources, tmp_path / "run.safetensors", resume=False)
    stored = checkpoint.load(file)[1].size
    with pytest.raises(ValueError, match=f"go on with --size {stored}"):
        fit(replace(recipe(), minutes=0, steps=1, size="average"), sources, file, resume=True)


def test_merged_runs_go_on(sources: Sources, tmp_path: Path) -> None:
    start = fit(replace(recipe(), minutes=0, steps=2), sources, tmp_path / "start.safetensors", resume=False)
    sides = [Path(shutil.copy(start, tmp_path / f"{seed}.safetensors")) for seed in (5, 6)]
    for seed, side in enumerate(sides):
        fit(replace(recipe(), minutes=0, steps=3, seed=seed), sources, side, resume=True)
    both = tmp_path / "both.safetensors"
    assert merge(sides, both).step == 8
    fit(replace(recipe(), minutes=0, steps=2), sources, both, resume=True)
    assert checkpoint.load(both)[1].step == 10


@pytest.mark.parametrize("kind", ["average", "mm-synthesis"])
def test_the_twins_are_trained_by_the_same_recipe(kind: str, sources: Sources, tmp_path: Path) -> None:
    file = fit(replace(recipe(), size=kind, steps=3), sources, tmp_path / "twin.safetensors", resume=False)
    twin, progress = checkpoint.load_any(file)
    assert progress.size == kind
    given = ModelInput(np.random.default_rng(0).random((2, 5, 32, 48), dtype=np.float32), (Modality.T1, Modality.T2))
    made = predictor(twin)(given, [Modality.FLAIR, Modality.T1C])
    assert made.shape == (2, 5, 32, 48)
    assert np.isfinite(made).all()
    with pytest.raises(ValueError, match="not Med-K2N"):
        checkpoint.load_network(file)


def test_average_fusion_cannot_shut_anything_out(network: MedK2N) -> None:
    twin = AverageFusion(TINY, text_vectors()).eval()
    twin.load_state_dict(network.state_dict())
    images, have, want = torch.rand(2, 3, 3, 32, 32), torch.tensor([0, 2, 3]), torch.tensor([1])
    shut, auto = torch.zeros(1, 3), torch.tensor([-1])
    assert torch.equal(twin(images, have, want, shut, auto).synthesised, twin(images, have, want, 1 - shut, auto).synthesised)
    assert not torch.equal(
        network(images, have, want, shut, auto).synthesised, network(images, have, want, 1 - shut, auto).synthesised
    )


@pytest.mark.filterwarnings("ignore")
def test_export_refuses_a_graph_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medk2n_cli.training import export as room
    from medk2n_cli.training import network as definitions

    monkeypatch.setitem(definitions.SIZES, "small", TINY)
    file = tmp_path / "tiny.safetensors"
    net = checkpoint.new_network("small")
    checkpoint.save(file, net.state_dict(), {}, checkpoint.Progress("small", 0, 0.0, ()))
    out = tmp_path / "out" / "tiny.onnx"
    card = export(file, out, Measured({}, {}))
    assert sorted(f.name for f in out.parent.iterdir()) == ["tiny.json", "tiny.onnx"]
    before = out.read_bytes()
    assert b"/medk2n_cli/" not in before, "no source path of the exporting machine"
    assert card.sha256
    monkeypatch.setattr(room, "write_graph", lambda network, part: part.write_bytes(b"another"))  # to write it again takes long
    monkeypatch.setattr(room, "compare", lambda network, part: 1e-3)
    with pytest.raises(Disagreement):
        export(file, out, Measured({}, {}))
    assert out.read_bytes() == before
