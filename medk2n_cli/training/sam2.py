"""The paper's encoder: SAM2's Hiera, frozen, with LoRA on its attention (needs the sam2 extra).

SAM2: Ravi et al., arXiv 2408.00714; Hiera: Ryali et al., arXiv 2306.00989; LoRA: Hu et al., arXiv 2106.09685. The network is
that of `transformers`, the LoRA that of `peft`; here is only what puts them behind the interface of `network.ConvEncoder`.
Both libraries are imported where they are needed, so that everything else works without them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medk2n_cli.training.network import SIZES, Film
from medk2n_cli.training.refusal import Refusal

RANK, ALPHA = 8, 16
# Side of a cell, pixels: Hiera's coarsest stride, and the 8 tokens of 4 pixels that tile its position embedding.
CELL = 32
# Larger than one window of Hiera both ways (14 tokens of 16 pixels), or the exporter takes "one window" for a constant.
EXAMPLE = (240, 464)
# What SAM2 was trained with: mean and standard deviation of RGB in [0, 1]; here the three neighbouring slices.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Random weights take these, pretrained ones bring their own: Hiera tiny and base plus (sam2_hiera_t.yaml, sam2_hiera_b+.yaml).
CONFIGS: dict[str, dict[str, Any]] = {
    "small": {},  # the default of transformers is Hiera tiny
    "base": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 112,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 3, 16, 3],
            "embed_dim_per_stage": [112, 224, 448, 896],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 14, 7],
            "global_attention_blocks": [12, 16, 20],
            "window_positional_embedding_background_size": [14, 14],
        },
        "backbone_channel_list": [896, 448, 224, 112],
    },
}


@dataclass(frozen=True)
class Plan:
    """All that rebuilds an encoder offline; its weights are in the checkpoint.

    Attributes:
        size: of the network around it, one of `SIZES`.
        config: of `Sam2VisionConfig`.
        source: where the frozen weights came from, with licence; empty where they are random.
    """

    size: str
    config: dict[str, Any]
    source: str = ""
    rank: int = RANK
    alpha: int = ALPHA


class Sam2Encoder(nn.Module):
    """Images of one modality each -> features at strides 2, 4, 8, 16, in the place of `ConvEncoder`.

    forward: images (B, 3, H, W) in [0, 2], condition (B, D) -> four tensors (B, widths[l], H / 2^(l+1), W / 2^(l+1)).
    Strides 4 to 16 are SAM2's feature pyramid, projected; stride 2, which Hiera lacks, comes from two convolutions.
    """

    def __init__(self, plan: Plan, pretrained: nn.Module | None = None) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        self.plan, size = plan, SIZES[plan.size]
        w = size.widths
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1), persistent=False)
        vision = pretrained or _random(plan.config)
        patches = vision.get_submodule("backbone.patch_embed.projection")
        assert isinstance(patches, nn.Conv2d)
        # `forward` pads before the first row and column instead; after the last, stride 4 never looks at the padding.
        # So the exporter sees that n cells give 8 n tokens: (32 n - 4) // 4 + 1, not (32 n - 1) // 4 + 1.
        self.before = int(patches.padding[0])
        patches.padding = (0, 0)
        lora = LoraConfig(r=plan.rank, lora_alpha=plan.alpha, target_modules=["qkv", "proj"])
        self.vision: Any = get_peft_model(vision, lora)  # freezes all but LoRA
        self.stem = nn.Sequential(nn.Conv2d(12, w[0], 3, padding=1), nn.SiLU(), nn.Conv2d(w[0], w[0], 3, padding=1))
        self.project = nn.ModuleList(nn.Conv2d(plan.config["fpn_hidden_size"], c, 1) for c in w[1:])
        self.films = nn.ModuleList(Film(size.descriptor, c) for c in w)

    def forward(self, images: Tensor, condition: Tensor) -> list[Tensor]:
        """As the class says."""
        height, width = images.shape[-2:]
        found = self.vision(self._cells(images)).fpn_hidden_states
        own = [self.stem(F.pixel_unshuffle(images, 2))]
        for project, features, stride in zip(self.project, found, (4, 8, 16), strict=True):
            own.append(project(features[..., : height // stride, : width // stride]))
        return [film(x, condition) for film, x in zip(self.films, own, strict=True)]

    def _cells(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> SAM2's scale, on whole cells: background to the right and below, Hiera's own padding before."""
        height, width = images.shape[-2:]
        right, below = ((n + CELL - 1) // CELL * CELL - n for n in (width, height))
        pixels = (F.pad(images, (0, right, 0, below)) - self.mean) / self.std
        return F.pad(pixels, (self.before, 0, self.before, 0))

    def merge(self) -> None:
        """LoRA into the weights it corrects: what is left is a plain Hiera."""
        self.vision = self.vision.merge_and_unload()


def start(encoder: str, size: str, weights: str) -> Sam2Encoder | None:
    """The encoder of a new training; None is the network's own. `weights`: NAME[@REVISION] on the Hub, a folder, or empty.

    Raises:
        Refusal: the options contradict each other, or the weights are not those of a SAM2.
    """
    if encoder != "sam2":
        if weights:
            raise Refusal(f"encoder weights {weights} are for the encoder sam2, not for {encoder}")
        return None
    if size not in SIZES:
        raise Refusal(f"{size} has an encoder of its own; sam2 is for {', '.join(SIZES)}")
    vision, source = _pretrained(weights) if weights else (_random(CONFIGS[size]), "")
    config = {k: v for k, v in vision.config.to_dict().items() if k != "_name_or_path"}  # may name a folder of this machine
    return Sam2Encoder(Plan(size, config, source), vision)


def describe(network: nn.Module) -> str:
    """The plan of a network's encoder as JSON, for checkpoint metadata; empty where the encoder is the network's own."""
    encoder = getattr(network, "encoder", None)
    return json.dumps(asdict(encoder.plan)) if isinstance(encoder, Sam2Encoder) else ""


def rebuild(described: str, asked: str = "") -> Sam2Encoder | None:
    """What `describe` described, weights to be loaded; nothing is downloaded.

    Raises:
        Refusal: sam2 was asked for, and the checkpoint was trained without it.
    """
    if asked == "sam2" and not described:
        raise Refusal("this checkpoint has no SAM2 encoder: start a new one, without --resume")
    return Sam2Encoder(Plan(**json.loads(described))) if described else None


def sources(described: str) -> list[str]:
    """For the card: where frozen weights came from, if from anywhere."""
    encoder = json.loads(described or "{}")
    return [encoder["source"]] if encoder.get("source") else []


def limit(described: str) -> str:
    """For the card: what of the paper is not in these weights."""
    if not described:
        return "The spiral Mamba and the SAM2 encoder of the paper are not part of these weights."
    untaught = "" if sources(described) else "; their SAM2 encoder was never pretrained"
    return f"The spiral Mamba of the paper is not part of these weights{untaught}."


def traced(module: nn.Module, example: tuple[Tensor, ...], dynamic: Any) -> nn.Module | torch.export.ExportedProgram:  # noqa: ANN401
    """What to hand to the ONNX exporter: `module` itself, or traced and LoRA merged where a SAM2 encoder is in it.

    Hiera's windows ask for more equalities between sizes than the exporter can prove; they are left to the runtime.
    """
    encoders = [m for m in module.modules() if isinstance(m, Sam2Encoder)]
    if not encoders:
        return module
    for encoder in encoders:
        encoder.merge()
    images = torch.rand(*example[0].shape[:-2], *EXAMPLE)
    return torch.export.export(
        module,
        (images, *example[1:]),
        dynamic_shapes=dynamic,
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def _random(config: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of transformers
    from transformers import Sam2VisionConfig, Sam2VisionModel

    return Sam2VisionModel(Sam2VisionConfig.from_dict(config))


def _pretrained(weights: str) -> tuple[Any, str]:
    """A `Sam2VisionModel` in float32, and where it came from with its licence."""
    from transformers import Sam2VisionModel

    folder = Path(weights)
    name, _, revision = (weights, "", "") if folder.is_dir() else weights.partition("@")
    vision, found = Sam2VisionModel.from_pretrained(
        name,
        revision=revision or "main",
        key_mapping={r"^vision_encoder\.": ""},  # whole SAM2 models keep it under this name
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    if lacking := sorted([*found["missing_keys"], *found["mismatched_keys"]]):
        raise Refusal(f"{weights} lacks {len(lacking)} tensors of a SAM2 vision encoder, the first {lacking[0]}")
    if folder.is_dir():
        return vision, f"SAM2 encoder: local folder {folder.resolve().name}"
    commit = getattr(vision.config, "_commit_hash", None) or revision or "main"
    licence = "Apache-2.0; Ravi et al., arXiv 2408.00714" if name.startswith("facebook/sam2") else "licence: see there"
    return vision, f"SAM2 encoder: huggingface.co/{name} at {commit} ({licence})"
