"""Checkpoint -> NAME.onnx and NAME.json in one act, refused unless ONNX Runtime and torch agree."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from medk2n_cli import __version__
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import MULTIPLE
from medk2n_cli.digest import sha256_of
from medk2n_cli.model import selftest
from medk2n_cli.model.card import ModelCard, PairStatistics, card_file
from medk2n_cli.model.device import choose_device
from medk2n_cli.model.session import open_session
from medk2n_cli.model.store import Weights
from medk2n_cli.training import sam2
from medk2n_cli.training.checkpoint import Progress, load_network
from medk2n_cli.training.levelling import convolve_levels
from medk2n_cli.training.network import Exported, MedK2N
from medk2n_cli.training.refusal import Refusal

TOLERANCE = 1e-4
INTENDED_USE = "Research: filling in a contrast that a brain MR study lacks. Not for diagnosis."
# Pixels, slices and noise as simulated (noise: twice the largest of twelve real studies too); how much of a head those studies
# showed, and how far their fields of view cut it.
INPUT_LIMITS = {
    "in_plane_mm": [0.3, 2.0],
    "slice_mm": [0.5, 8.5],
    "head_ml": [700.0, 6000.0],
    "cut_in_plane": [0.0, 0.25],
    "cut_on_top": [0.0, 0.6],
    "noise": [0.0, 0.13],
    "background": [0.0, 0.13],
}
LIMITS = (
    "Enhancement cannot be deduced without an image taken after injection: a synthesised T1C shows none that is new.",
    "Restricted diffusion cannot be deduced without a diffusion image: a synthesised DWI or ADC cannot rule a stroke out.",
    "Tumours and strokes were only simulated in training; the real patients all have multiple sclerosis.",
    "Lesions fade or vanish, most of all in a synthesised FLAIR, and bright spots may be invented: never judge the presence or "
    "the size of a lesion on it.",
    "Intensities are arbitrary apart from ADC; do not compare them between studies.",
)
REAL_SOURCES = (
    "open_ms: Lesjak et al., Neuroinformatics 2017 and 2016 (CC-BY)",
    "MS3SEG: figshare 10.6084/m9.figshare.30393475 (CC BY 4.0)",
    "MSLesSeg: Guarnera et al. 2025 (CC-BY 4.0 as listed by a third party)",
)


class Disagreement(Refusal):
    """ONNX Runtime and torch differ by more than `TOLERANCE`; nothing was written."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known beside the weights: metrics by protocol, gate statistics by pair name ``T1>T2``."""

    metrics: dict[str, object]
    gates: dict[str, dict[str, float]]


def export(checkpoint: Path, file: Path, measured: Measured) -> ModelCard:
    """Write ``file`` (.onnx) and its card; an existing pair stays where torch and ONNX Runtime disagree.

    Raises:
        Disagreement: they differ by more than 1e-4 on some K, N, H, W, order or override pattern.
    """
    network, progress = load_network(checkpoint)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        write_graph(network, part)
        worst = compare(network, part)
        if worst > TOLERANCE:
            raise Disagreement(f"ONNX Runtime and torch differ by {worst:.2e}, more than {TOLERANCE:.0e}")
        card = replace(make_card(network, progress, file.stem, measured), sha256=sha256_of(part))
        return keep(part, card, file)


def keep(part: Path, card: ModelCard, file: Path) -> ModelCard:
    """Move the finished graph `part` to `file`, beside it its card with the graph's own answer to the self-test."""
    card = replace(card, self_test=selftest.answer(open_session(Weights(part, card), choose_device("cpu"))))
    card_part = card_file(part)
    card_part.write_text(json.dumps(card.to_dict(), indent=1) + "\n", encoding="utf-8")
    part.rename(file)
    card_part.rename(card_file(file))
    return card


def write_graph(network: MedK2N, file: Path) -> None:
    """The network as one ONNX file; S, K, N, H, W stay dynamic (example sizes differ, or the exporter would tie them)."""
    plain = Exported(copy.deepcopy(network)).eval()
    convolve_levels(plain)
    slices, have, want = 3, torch.tensor([0, 3, 2, 5]), torch.tensor([1, 4])
    example = (
        torch.rand(slices, 4, network.size.neighbours, 48, 80),
        have,
        want,
        torch.full((2, 4), -1.0),
        torch.full((2,), -1),
    )
    auto = torch.export.Dim.AUTO
    dynamic = ({0: auto, 1: auto, 3: auto, 4: auto}, {0: auto}, {0: auto}, {0: auto, 1: auto}, {0: auto})
    program = torch.onnx.export(
        sam2.traced(plain, example, dynamic),
        example,
        dynamo=True,
        dynamic_shapes=dynamic,
        input_names=list(Exported.INPUTS),
        output_names=list(Exported.OUTPUTS),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # The exporter notes source paths and stack traces of the exporting machine on every node; they stay here.
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
    file.write_bytes(model.SerializeToString())


def compare(network: MedK2N, file: Path) -> float:
    """Largest absolute difference between torch and ONNX Runtime over many shapes, orders and overrides."""
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    module = Exported(network).eval()
    worst = 0.0
    for example in _examples(network.size.neighbours):
        with torch.no_grad():
            expected = module(*example)
        feeds = {n: t.numpy() for n, t in zip(Exported.INPUTS, example, strict=True)}
        for ours, theirs in zip(expected, session.run(None, feeds), strict=True):
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                return float("inf")
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()))
    return worst


def _examples(neighbours: int) -> Iterator[tuple[Tensor, ...]]:
    chance = torch.Generator().manual_seed(5)
    shapes = [
        ((0,), (3,), 1, 32, 48),
        ((2, 0), (3, 1), 2, 64, 48),
        ((0, 2), (3, 1), 2, 64, 48),
        ((3, 1, 0), (2,), 1, 96, 112),
        ((5, 4, 3, 2, 1), (0,), 2, 48, 48),
        ((1,), (0, 2, 3, 4, 5), 3, 48, 32),
        ((4, 0, 5), (1, 2, 3), 2, 80, 64),
        ((2,), (0,), 1, 240, 256),
    ]
    for have, want, slices, height, width in shapes:
        images = torch.rand((slices, len(have), neighbours, height, width), generator=chance) * 1.2
        images[..., : height // 4, :] = 0
        for value in (-1.0, 0.0, 1.0):
            override = torch.full((len(want), len(have)), value)
            yield images, torch.tensor(have), torch.tensor(want), override, torch.full((len(want),), int(value))


def make_card(network: MedK2N, progress: Progress, name: str, measured: Measured) -> ModelCard:
    """The card of a network; its digest is filled in by `export`."""
    modules = {
        "encoder": network.encoder,
        "PreWeightNet": network.preweight,
        "ThresholdNet": network.threshold,
        "EffiWeightNet": network.effiweight,
        "TaskHeadNet": network.taskhead,
        "CMIM": network.cmim,
        "decoder": network.decoder,
    }
    counts = {n: sum(p.numel() for p in m.parameters()) for n, m in modules.items()}
    counts["embeddings, descriptors, attention"] = sum(p.numel() for p in network.parameters()) - sum(counts.values())
    return ModelCard(
        name=name,
        version=__version__,
        sha256="0" * 64,
        size=progress.size,
        slots=tuple(m.value for m in Modality),
        inputs=Exported.INPUTS,
        outputs=Exported.OUTPUTS,
        neighbours=network.size.neighbours,
        multiple=MULTIPLE,
        normalisation="5th percentile of the deep head to 0.1 (T2: 0.2), median to 0.5, outputs by one factor; "
        "ADC 0..4e-3 mm2/s to 0..2",
        spacing_mm=1.0,
        parameters=counts,
        pairs=_pairs(network, measured),
        training=_training(progress),
        metrics=measured.metrics,
        limits=(*LIMITS, sam2.limit(progress.encoder)),
        input_limits=INPUT_LIMITS,
        self_test=(),
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
    )


def _pairs(network: MedK2N, measured: Measured) -> tuple[PairStatistics, ...]:
    rows = []
    for i, source in enumerate(Modality):
        for j, target in enumerate(Modality):
            if i == j:
                continue
            seen = measured.gates.get(f"{source.value}>{target.value}", {})
            rows.append(
                PairStatistics(
                    source.value,
                    target.value,
                    round(float(network.affinity[i, j].detach()), 4),
                    round(seen.get("gate", 0.0), 4),
                    round(seen.get("w_eff", 0.0), 4),
                    round(float(network.past_gain[i, j]), 4),
                )
            )
    return tuple(rows)


def _training(progress: Progress) -> dict[str, object]:
    studies = list(progress.studies)
    heads = sorted({str(h) for run in progress.history for h in run.get("heads", [])})  # type: ignore[attr-defined]
    return {
        "steps": progress.step,
        "hours": round(progress.seconds / 3600, 2),
        "devices": sorted({str(run["device"]) for run in progress.history}),
        "simulated_heads": f"{len(heads)} label maps of BBillot/SynthSeg (Apache-2.0; Billot et al., MedIA 2023)",
        "real_studies": studies,
        "sources": [*sam2.sources(progress.encoder), *(REAL_SOURCES if studies else ())],
        "runs": len(progress.history),
    }
