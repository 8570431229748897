"""Do lesions survive synthesis, and are none invented? Contrast, Dice of a threshold, false positives in healthy heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medk2n_cli.aligning.align import align
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.tensors import ModelInput
from medk2n_cli.packing.level import level_of
from medk2n_cli.packing.pack import cut, pack
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.training.dataset import SLOTS
from medk2n_cli.training.gates import synthesise
from medk2n_cli.training.metrics import rounded
from medk2n_cli.training.network import MedK2N
from medk2n_cli.training.prepare import lesion_mask, study_name
from medk2n_cli.training.simulate.anatomy import HeadTensors
from medk2n_cli.training.simulate.draw import Lesion, Scalp, draw_study
from medk2n_cli.training.simulate.heads import Head
from medk2n_cli.training.simulate.render import Window, render
from medk2n_cli.training.simulate.tissue import CLASS, WHITE

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
TARGETS = (Modality.FLAIR, Modality.T2)
SIZES_MM3 = ((20, 100), (100, 500), (500, 10**7))
_RING_MM = 3
_VISIBLE = 0.1  # a lesion whose true contrast is less cannot be lost
_BRIGHT, _BRIGHTER = 1.5, 0.15  # hyperintense: this many times the median, and this much above the truth
_WINDOW = (208, 176)


@dataclass(frozen=True)
class LesionRow:
    """One lesion in one synthesised volume; contrasts are (lesion - surroundings) / surroundings."""

    subject: str
    have: tuple[str, ...]
    target: str
    kind: str
    mm3: float
    real: float
    made: float

    @property
    def kept(self) -> float:
        """Share of the true contrast that the synthesised image shows."""
        return self.made / self.real

    def to_dict(self) -> dict[str, object]:
        """Plain JSON."""
        return rounded(asdict(self))


@dataclass(frozen=True, eq=False)
class _Case:
    """A study with lesions: images (D, H, W) by modality, masks (D, H, W), mm between slices.

    `truth` is what a network should answer: of simulated studies the images without coil profile and noise. `parts`: what is
    measured, by kind; of a tumour also its oedema alone, since necrosis is dark in one FLAIR and bright in the next.
    """

    name: str
    images: Mapping[Modality, FloatArray]
    truth: Mapping[Modality, FloatArray]
    head: BoolArray
    lesions: BoolArray
    spacing: float
    parts: Mapping[str, BoolArray]
    white: BoolArray  # white matter but for its edge; of real studies the head

    def subsets_without(self, target: Modality) -> Iterator[tuple[Modality, ...]]:
        """Every subset of the other contrasts, the smallest first."""
        others = [m for m in self.images if m is not target]
        for k in range(1, len(others) + 1):
            yield from combinations(others, k)

    def make(self, network: MedK2N, have: Sequence[Modality], target: Modality) -> FloatArray:
        given = ModelInput(np.stack([self.images[m] for m in have]), tuple(have))
        slots = torch.tensor([SLOTS.index(m) for m in have])
        images = torch.from_numpy(given.slices(np.arange(given.depth)))
        return np.asarray(synthesise(network, images, slots, torch.tensor([SLOTS.index(target)])).image.clamp_min(0).numpy())


def read_case(folder: Path, mask: str = "lesions.nii.gz") -> _Case:
    """A real study and its lesion mask, as the tool packs them."""
    aligned = align(load(scan([folder]).chosen()))
    packed = pack(aligned)
    lesions = lesion_mask(folder, aligned, packed.box, mask)
    images = dict(zip(packed.input.have, packed.input.stack, strict=True))
    head = cut(aligned.head.astype(np.float32), packed.box) > 0
    return _Case(study_name(folder), images, images, head, lesions, aligned.grid.spacing[2], {"MS lesion": lesions}, head)


def simulated_cases(heads: Sequence[Head], kind: str, count: int) -> list[_Case]:
    """Studies with one tumour each (``tumour``) or none at all (``healthy``), 2 mm slices, without diffusion."""
    cases = []
    for number in range(count):
        head = heads[number % len(heads)]
        rng = np.random.default_rng([77, number])
        lesions = _tumour(head, rng) if kind == "tumour" else ()
        # Without a scalp of its own, so that what lies deeper than 10 mm under the mask's edge is brain.
        drawn = draw_study(head, 90000 + number)
        thin = {m: replace(how, thickness=2.0) for m, how in drawn.acquisitions.items()}
        draw = replace(drawn, spacing=2.0, acquisitions=thin, lesions=lesions, scalp=Scalp())
        modalities: list[Modality] = [m for m in SLOTS if m not in (Modality.DWI, Modality.ADC)]
        middle = (0.0, 0.0, float(rng.uniform(0, 20)))
        out = render(HeadTensors.of(head, torch.device("cpu")), draw, Window(middle, _WINDOW, 24), modalities)
        images, truth = ({m: seen[m].numpy() for m in modalities} for seen in (out.acquired, out.clean))
        classes = out.lesion.numpy()
        parts = {kind: classes > 0, "tumour's oedema": classes == CLASS["oedema"]}
        white = ndimage.binary_erosion(np.isin(out.tissue.numpy(), WHITE), np.ones((1, 3, 3), bool))
        cases.append(_Case(f"{kind} {number}", images, truth, out.head.numpy(), classes > 0, 2.0, parts, white))
    return cases


def _tumour(head: Head, rng: np.random.Generator) -> tuple[Lesion, ...]:
    i, j, k = np.mean(head.brain_box, axis=0) + np.array([rng.choice([-1, 1]) * rng.uniform(18, 35), rng.uniform(-30, 30), 12])
    layers = (("oedema", 1.0), ("enhancing rim", 0.6), ("necrosis", 0.45))
    radius = float(rng.uniform(12, 25))
    return (Lesion((float(i), float(j), float(k)), (radius, radius, radius), layers, 0.3),)


def measure(network: MedK2N, case: _Case) -> tuple[list[LesionRow], list[dict[str, object]]]:
    """Every lesion in every target of `TARGETS` from every subset without it; Dice of the best threshold for FLAIR."""
    rows: list[LesionRow] = []
    dice: list[dict[str, object]] = []
    for target in TARGETS:
        for have in case.subsets_without(target):
            made = case.make(network, have, target)
            names = tuple(m.value for m in have)
            for kind, part in case.parts.items():
                beside = case.head & (part | ~case.lesions)  # the rest of a lesion is no surroundings
                for mm3, real, kept in contrasts(case.truth[target], made, part, beside, case.spacing):
                    rows.append(LesionRow(case.name, names, target.value, kind, mm3, real, kept))
            if target is Modality.FLAIR and case.lesions.any():
                real, ours = (best_dice(image, case.lesions, case.head) for image in (case.truth[target], made))
                dice.append({"subject": case.name, "have": list(names), "real": round(real, 3), "made": round(ours, 3)})
    return rows, dice


def contrasts(
    truth: FloatArray, made: FloatArray, lesions: BoolArray, head: BoolArray, spacing: float
) -> list[tuple[float, float, float]]:
    """(mm3, contrast in the truth, contrast in `made`) of every visible lesion; (D, H, W) each, 1 mm in plane."""
    labels, _ = ndimage.label(lesions)
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        near = tuple(slice(max(0, s.start - _RING_MM), s.stop + _RING_MM) for s in box)
        lesion = labels[near] == number
        mm3 = float(lesion.sum() * spacing)
        if mm3 < SIZES_MM3[0][0]:
            continue
        grown = ndimage.binary_dilation(lesion, np.ones((1, 3, 3), bool), iterations=_RING_MM)
        ring = grown & ~lesions[near] & head[near]
        if ring.sum() < lesion.sum() / 4:
            continue
        real, ours = (_contrast(image[near], lesion, ring) for image in (truth, made))
        if real > _VISIBLE:
            found.append((mm3, real, ours))
    return found


def _contrast(image: FloatArray, lesion: BoolArray, ring: BoolArray) -> float:
    around = float(np.median(image[ring]))
    return (float(image[lesion].mean()) - around) / max(around, 0.05)


def best_dice(image: FloatArray, lesions: BoolArray, head: BoolArray) -> float:
    """Dice of the threshold that segments the lesions best, whatever it is."""
    values, wanted = image[head], lesions[head]
    scores = [0.0]
    for threshold in np.percentile(values, np.linspace(80, 99.8, 60)):
        bright = values > threshold
        scores.append(2 * float((bright & wanted).sum()) / max(1.0, float(bright.sum() + wanted.sum())))
    return max(scores)


def invented(network: MedK2N, case: _Case) -> list[dict[str, object]]:
    """What every subset of a healthy head's other contrasts makes of its FLAIR, in all of the brain and in its white matter.

    The white matter is where MS lesions lie; cortex may be brighter than the truth because another FLAIR shows it brighter.
    """
    rows: list[dict[str, object]] = []
    for have in case.subsets_without(Modality.FLAIR):
        made = case.make(network, have, Modality.FLAIR)
        total, white = (invented_ml(made, case, Modality.FLAIR, where) for where in (case.head, case.white))
        rows.append({"subject": case.name, "have": [m.value for m in have], "ml": total, "ml_white": white})
    return rows


def invented_ml(made: FloatArray, case: _Case, target: Modality, where: BoolArray) -> float:
    """ml of connected hyperintensity, at least 20 mm3 each, that `made` (D, H, W) shows and the truth does not.

    Against the truth without its coil profile: where the coil dims an acquired image, every healthy cortex looks too bright.
    Both at their level, as the tool gives it: these heads are slabs, whose median is not quite that of the head.
    """
    inside = ndimage.binary_erosion(case.head, np.ones((1, 3, 3), bool), iterations=10)
    truth, made = (image * np.float32(level_of(target, image, inside)) for image in (case.truth[target], made))
    median = float(np.median(truth[inside]))
    bright = inside & where & (made > _BRIGHT * median) & (made > ndimage.maximum_filter(truth, (1, 3, 3)) + _BRIGHTER)
    labels, count = ndimage.label(bright)
    sizes = ndimage.sum_labels(bright, labels, np.arange(1, count + 1)) * case.spacing
    return float(sizes[sizes >= SIZES_MM3[0][0]].sum() / 1000)


def summary(
    rows: Sequence[LesionRow], dice: Sequence[Mapping[str, object]], made_up: Sequence[Mapping[str, object]]
) -> dict[str, object]:
    """Medians of the contrast kept by target, kind, inputs and size; Dice; invented volume by inputs; of how many subjects."""
    kept: dict[str, dict[str, object]] = {}
    for kind in sorted({r.kind for r in rows}):
        for target in TARGETS:
            mine = [r for r in rows if r.kind == kind and r.target == target.value]
            if mine:
                kept[f"{kind} in {target.value}"] = _by_size(mine)
    several = [d for d in dice if len(d["have"]) > 1]  # type: ignore[arg-type]
    return {
        "contrast_kept": kept,
        "dice_FLAIR": {
            name: {k: round(float(np.mean([float(str(d[k])) for d in found])), 3) for k in ("real", "made")}
            for name, found in (("all subsets", list(dice)), ("two inputs or more", several))
            if found
        },
        "invented_ml_in_healthy_heads": _by_inputs(made_up, "ml"),
        "invented_ml_in_healthy_white_matter": _by_inputs(made_up, "ml_white"),
        "subjects": {kind: sorted({r.subject for r in rows if r.kind == kind}) for kind in sorted({r.kind for r in rows})},
    }


def _by_inputs(found: Sequence[Mapping[str, object]], key: str) -> dict[str, object]:
    """Mean, median and maximum of `key`, over all and for each subset of inputs."""
    if not found:
        return {}
    by_name: dict[str, list[float]] = {}
    for row in found:
        by_name.setdefault("+".join(row["have"]), []).append(float(str(row[key])))  # type: ignore[arg-type]
    each = [v for values in by_name.values() for v in values]
    return {
        "heads": len({str(r["subject"]) for r in found}),
        "mean": round(float(np.mean(each)), 3),
        "median": round(float(np.median(each)), 3),
        "max": round(max(each), 3),
        "mean_by_inputs": {name: round(float(np.mean(values)), 3) for name, values in by_name.items()},
    }


def _by_size(rows: Sequence[LesionRow]) -> dict[str, object]:
    told: dict[str, object] = {"median": round(float(np.median([r.kept for r in rows])), 3), "lesions": len(rows)}
    names = dict.fromkeys("+".join(r.have) for r in rows)
    told["by_inputs"] = {n: round(float(np.median([r.kept for r in rows if "+".join(r.have) == n])), 3) for n in names}
    for low, high in SIZES_MM3:
        sized = [r.kept for r in rows if low <= r.mm3 < high]
        name = f"{low}-{high} mm3" if high < 10**6 else f"over {low} mm3"
        if sized:
            told[name] = round(float(np.median(sized)), 3)
    return told
