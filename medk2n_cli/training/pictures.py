"""Pictures for the model card: what works and what fails, on simulated heads; how far quality and error can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medk2n_cli.core.modality import Modality
from medk2n_cli.training.dataset import SLOTS
from medk2n_cli.training.gates import synthesise
from medk2n_cli.training.network import MedK2N
from medk2n_cli.training.simulate.anatomy import HeadTensors
from medk2n_cli.training.simulate.draw import Draw, Lesion, draw_study
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.render import Rendered, Window, render

T1, T1C, T2, FLAIR, DWI, ADC = Modality
# Title, kind of lesion, inputs, target: two that work, then the known failures of the card.
CASES: tuple[tuple[str, str, tuple[Modality, ...], Modality], ...] = (
    ("lesions, FLAIR from T1 and T2", "MS lesion", (T1, T2), FLAIR),
    ("tumour, T2 from T1 and FLAIR", "tumour", (T1, FLAIR), T2),
    ("T2 from FLAIR alone: fluid and bone are both black", "MS lesion", (FLAIR,), T2),
    ("enhancement is not deduced: T1C from T1, T2, FLAIR", "tumour", (T1, T2, FLAIR), T1C),
    ("a fresh stroke is not deduced: DWI from T1 and T2", "acute stroke", (T1, T2), DWI),
)
_SHAPE, _HEIGHT_MM = (208, 176), 12.0


def draw_cases(network: MedK2N, head: Head, file: Path) -> Path:
    """One row per case: inputs, truth, synthesised image, expected and true error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(CASES), 7, figsize=(13, 2.4 * len(CASES)))
    for axis in axes.flat:
        axis.axis("off")
    for row, (title, lesion, have, target) in zip(axes, CASES, strict=True):
        study = _study(head, lesion)
        made, expected = _made(network, study, have, target)
        truth = study.acquired[target][1].numpy()
        columns = [(m.value, study.acquired[m][1].numpy(), "gray", 1.3) for m in have]
        columns += [("", np.ones_like(truth), "gray", 1.0)] * (3 - len(have))  # white: no third input
        columns += [(f"{target.value}, truth", truth, "gray", 1.3), (f"{target.value}, SYNTHETIC", made, "gray", 1.3)]
        columns += [("expected error", expected, "inferno", 0.4), ("true error", np.abs(made - truth), "inferno", 0.4)]
        for axis, (name, image, colours, top) in zip(row, columns, strict=True):
            axis.imshow(image, cmap=colours, vmin=0, vmax=top)
            axis.set_title(name, fontsize=8)
        row[0].text(0, -22, title, fontsize=9, weight="bold")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.04, 0.25)
    figure.savefig(file, dpi=70)
    plt.close(figure)
    return file


def _study(head: Head, kind: str) -> Rendered:
    draw = replace(draw_study(head, 31), spacing=2.0, strip_mm=None, lesions=_lesions(head, kind))
    return render(HeadTensors.of(head, torch.device("cpu")), _quiet(draw), Window((0.0, 0.0, _HEIGHT_MM), _SHAPE, 3), SLOTS)


def _quiet(draw: Draw) -> Draw:
    """The same study, upright and acquired without much noise, so that the picture shows the network and not the scanner."""
    calm = {m: replace(a, noise=0.01, shift_mm=(0.0, 0.0), gamma=1.0) for m, a in draw.acquisitions.items()}
    return replace(draw, acquisitions=calm, pose=np.eye(3, dtype=np.float32))


def _lesions(head: Head, kind: str) -> tuple[Lesion, ...]:
    middle = np.mean(head.brain_box, axis=0) + np.array([0, 0, _HEIGHT_MM])
    tumour = (("oedema", 1.0), ("enhancing rim", 0.6), ("necrosis", 0.45))
    layers: tuple[tuple[str, float], ...] = tumour if kind == "tumour" else ((kind, 1.0),)
    places = ((-26, 5, 4), (24, 22, 3), (30, -18, 5)) if kind == "MS lesion" else ((-30, 8, 18),)
    at = [middle + np.array([x, y, 0]) for x, y, _ in places]
    radii = [float(r) for *_, r in places]
    return tuple(Lesion((float(c[0]), float(c[1]), float(c[2])), (r, r, r), layers, 0.2) for c, r in zip(at, radii, strict=True))


@torch.no_grad()
def _made(
    network: MedK2N, study: Rendered, have: Sequence[Modality], target: Modality
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float32]], np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    images = torch.stack([study.acquired[m] for m in have])[None]
    out = synthesise(network, images, torch.tensor([SLOTS.index(m) for m in have]), torch.tensor([SLOTS.index(target)]))
    return out.image[0].clamp_min(0).numpy(), out.expected_error[0].numpy()


def draw_trust(metrics: Mapping[str, Mapping[str, object]], file: Path) -> Path:
    """Predicted against measured SSIM of slices, expected against true error of voxels, one line per held-out study."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
    drawn = (("quality_calibration", "SSIM of slices"), ("expected_error_reliability", "absolute error of voxels"))
    for axis, (key, title) in zip(axes, drawn, strict=True):
        for name, told in metrics.items():
            if key in told:
                points = np.array([row[:2] for row in told[key]])  # type: ignore[attr-defined]
                axis.plot(points[:, 0], points[:, 1], "o-", label=name, markersize=3)
        low, high = axis.get_xlim()
        axis.plot([low, high], [low, high], "k:", linewidth=1)
        axis.set(xlabel="predicted", ylabel="measured", title=title)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=80)
    plt.close(figure)
    return file
