"""SAM2's Hiera with LoRA as the encoder, tiny and random, from the first step to a file on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the training room needs the train extra")
transformers = pytest.importorskip("transformers", reason="the SAM2 encoder needs the sam2 extra")
pytest.importorskip("peft", reason="the SAM2 encoder needs the sam2 extra")

import onnx  # noqa: E402
import SimpleITK as sitk  # noqa: E402

from medk2n_cli.training import checkpoint, network, sam2  # noqa: E402
from medk2n_cli.training.__main__ import main  # noqa: E402
from medk2n_cli.training.export import Measured, export, make_card  # noqa: E402
from medk2n_cli.training.fit import Sources, _Run  # noqa: E402
from medk2n_cli.training.network import Size  # noqa: E402
from medk2n_cli.training.recipe import Recipe  # noqa: E402
from medk2n_cli.training.simulate.heads import store_head  # noqa: E402
from tests.training.heads import formula_head  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),  # torch.export copies
]
TINY = Size(widths=(4, 6, 6, 8), descriptor=6, memory=3, attention=2, agreement=3)
# All kinds of blocks: windows of 8, 4, 14 that divide the image and that do not, pooled ones, and one over the whole image.
HIERA: dict[str, Any] = {
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "global_attention_blocks": [3],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    "fpn_hidden_size": 12,
}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.SIZES, "small", TINY)
        patch.setitem(sam2.CONFIGS, "small", HIERA)
        yield


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """One prepared formula head, as `load_heads` finds it in its cache."""
    folder = tmp_path_factory.mktemp("training")
    maps, cache = folder / "maps", folder / "cache" / "heads"
    maps.mkdir()
    cache.mkdir(parents=True)
    (maps / "head_01.nii.gz").write_bytes(b"prepared already")
    store_head(formula_head("head_01"), cache / "head_01.npz")
    return Sources(maps, cache)


def recipe() -> Recipe:
    return Recipe(minutes=1, rate=1e-2, batch=2, crop=(48, 48), whole=(64, 64), pool=8, refresh=1, warm_steps=2, encoder="sam2")


@pytest.fixture(scope="module")
def trained(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The untrained state, and the checkpoint after four steps."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("run") / "run.safetensors"
    run = _Run(recipe(), sources, file, resume=False)
    before = {k: v.clone() for k, v in run.network.state_dict().items()}
    for _ in range(4):
        run.step(0.0)
    run.save(4.0)
    return before, file


def encoder() -> sam2.Sam2Encoder:
    torch.manual_seed(0)
    made = sam2.start("sam2", "small", "")
    assert made is not None
    return made.eval()


@torch.no_grad()
def test_the_interface_is_that_of_the_other_encoder_for_all_multiples_of_16() -> None:
    hiera, conv = encoder(), network.ConvEncoder(TINY)
    for height, width in ((16, 16), (48, 80), (240, 32), (256, 464)):
        images, condition = torch.rand(2, 3, height, width) * 2, torch.rand(2, 6)
        ours, theirs = hiera(images, condition), conv(images, condition)
        assert [f.shape for f in ours] == [f.shape for f in theirs]


@torch.no_grad()
def test_padding_before_the_patches_changes_nothing_in_sam2() -> None:
    torch.manual_seed(0)
    plain = sam2._random(HIERA).eval()
    torch.manual_seed(0)
    ours, images = encoder(), torch.rand(1, 3, 64, 96)
    expected = plain((images - ours.mean) / ours.std).fpn_hidden_states
    for a, b in zip(expected, ours.vision(ours._cells(images)).fpn_hidden_states, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_only_lora_and_our_own_layers_learn(trained: tuple[dict[str, Any], Path]) -> None:
    before, file = trained
    tensors, _ = checkpoint.load(file)
    frozen = [k for k in before if k.startswith("encoder.vision.") and "lora_" not in k]
    learning = [k for k in before if k.startswith("encoder.") and k not in frozen]
    assert len(frozen) > 50
    assert sum("lora_B" in k for k in learning) == 13, "qkv and proj of five blocks, and three changes of width"
    assert any(k.startswith("encoder.stem") for k in learning)
    for name in frozen:
        assert torch.equal(tensors[f"live.{name}"], before[name]), name
        assert torch.equal(tensors[f"ema.{name}"], before[name]), name
    for name in learning:
        assert not torch.equal(tensors[f"live.{name}"], before[name]), name


def test_a_resumed_training_has_the_same_encoder(trained: tuple[dict[str, Any], Path], sources: Sources, tmp_path: Path) -> None:
    file = shutil.copy(trained[1], tmp_path / "run.safetensors")
    stored = checkpoint.load(file)[0]
    second = _Run(Recipe(batch=2, crop=(48, 48), pool=8), sources, file, resume=True)  # says nothing of an encoder
    assert isinstance(second.network.encoder, sam2.Sam2Encoder)
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, stored[f"live.{name}"]), name
    second.step(0.0)
    second.save(1.0)
    assert checkpoint.load(file)[1].step == 5


def test_the_exported_graph_is_plain_and_makes_a_marked_file(
    trained: tuple[dict[str, Any], Path], head_study: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.onnx"
    card = export(trained[1], file, Measured({}, {}))  # refuses where ONNX Runtime and torch differ
    assert card.training["sources"] == []
    assert "never pretrained" in card.limits[-1]
    graph = onnx.load(str(file)).graph
    assert not [t.name for t in (*graph.initializer, *graph.node) if "lora" in t.name.lower()]
    out = tmp_path / "out"
    words = ["synthesize", "--in", head_study, "--want", "FLAIR", "--out", out, "--weights", file, "--json"]
    done = subprocess.run([sys.executable, "-m", "medk2n_cli", *map(str, words)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    made = sitk.ReadImage(str(out / "synth_FLAIR.nii.gz"))
    assert made.GetSize() == sitk.ReadImage(str(head_study / "T1.nii.gz")).GetSize()
    assert json.loads((out / "report.json").read_text())["synthetic"] is True
    assert "synth" in made.GetMetaData("descrip").lower()


@pytest.mark.parametrize("whole", [False, True], ids=["vision model", "whole SAM2"])
def test_pretrained_weights_come_from_a_folder_and_are_needed_once(whole: bool, tmp_path: Path) -> None:
    folder, file = tmp_path / "some-sam2", tmp_path / "run.safetensors"
    vision = sam2._random(HIERA)
    for parameter in vision.parameters():
        torch.nn.init.normal_(parameter)
    saved = vision
    if whole:
        saved = transformers.Sam2Model(transformers.Sam2Config(vision_config=vision.config.to_dict()))
        saved.vision_encoder = vision
    saved.save_pretrained(folder)
    start = sam2.start("sam2", "small", str(folder))
    net = checkpoint.new_network("small", start)
    checkpoint.save(file, net.state_dict(), {}, checkpoint.Progress("small", 0, 0.0, (), sam2.describe(net)))
    shutil.rmtree(folder)
    again, progress = checkpoint.load_network(file)
    assert str(tmp_path) not in progress.encoder
    assert make_card(again, progress, "x", Measured({}, {})).training["sources"] == ["SAM2 encoder: local folder some-sam2"]
    again.encoder.merge()
    for name, value in vision.state_dict().items():
        assert torch.allclose(again.encoder.vision.state_dict()[name], value), name


def test_what_is_not_sam2_is_refused(tmp_path: Path) -> None:
    transformers.Sam2VisionConfig(**HIERA).save_pretrained(tmp_path)
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks .* tensors"):
        sam2.start("sam2", "small", str(tmp_path))
    with pytest.raises(ValueError, match="not for conv"):
        sam2.start("conv", "small", str(tmp_path))
    with pytest.raises(ValueError, match="encoder of its own"):
        sam2.start("sam2", "mm-synthesis", "")
    with pytest.raises(ValueError, match="no SAM2 encoder"):
        sam2.rebuild("", "sam2")


def test_the_command_line_trains_it(sources: Sources, tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    words = ["fit", "--label-maps", sources.label_maps, "--cache", sources.cache.parent, "--checkpoint", file]
    main([*map(str, words), "--steps", "1", "--encoder", "sam2"])
    assert isinstance(checkpoint.load_network(file)[0].encoder, sam2.Sam2Encoder)
