"""What each command of `python -m medk2n_cli.training` does: parsed arguments in, a plain JSON result out.

Imports stand inside the functions: `--help` needs no torch, and `fit` on prepared data needs no SimpleITK.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from medk2n_cli.training.recipe import Recipe
from medk2n_cli.training.refusal import Refusal


def _held_out(asked: argparse.Namespace) -> tuple[str, ...]:
    return _names(asked.hold_out)


def _names(listed: str) -> tuple[str, ...]:
    """``a, b`` -> its parts."""
    return tuple(n for name in listed.split(",") if (n := name.strip()))


def _kept(asked: argparse.Namespace, result: dict[str, object], **details: object) -> dict[str, object]:
    """`result`; with --out also a file that holds it as `summary`, for `export --metrics`, and the details."""
    if asked.out:
        asked.out.write_text(json.dumps({"summary": result, **details}, indent=1) + "\n", encoding="utf-8")
    return result


def run_simulate(asked: argparse.Namespace) -> dict[str, object]:
    """Studies, and a contact sheet where asked."""
    from medk2n_cli.training.simulate.heads import load_heads
    from medk2n_cli.training.simulate.studies import demo_draw, write_sheet, write_study

    heads = load_heads(asked.label_maps, asked.cache / "heads")
    folders: list[Path] = []
    for number in range(asked.seed, asked.seed + asked.count):
        head = heads[number % len(heads)]
        draw = demo_draw(head, number) if asked.demo else None
        folders.append(write_study(head, number, asked.out / f"sim_{number:06d}", asked.slices, draw))
    if asked.sheet:
        write_sheet(folders, asked.out / "sheet.png")
    return {"studies": [str(f) for f in folders]}


def run_fit(asked: argparse.Namespace) -> dict[str, object]:
    """Train, or go on training."""
    from medk2n_cli.training.fit import Sources, fit
    from medk2n_cli.training.prepare import prepare_all

    studies = prepare_all(asked.data, asked.cache / "studies", _held_out(asked), must_exist=True)
    recipe = Recipe(
        size=asked.size,
        minutes=asked.minutes,
        steps=asked.steps,
        warm_steps=asked.warm_steps,
        corrupted=asked.spoiled,
        whole_slices=asked.whole_slices,
        rate=asked.rate,
        seed=asked.seed,
        encoder=asked.encoder,
        encoder_weights=asked.encoder_weights,
        only=_names(asked.only),
    )
    file = fit(recipe, Sources(asked.label_maps, asked.cache / "heads", studies), asked.checkpoint, asked.resume)
    return {"checkpoint": str(file), "studies": [s.stem for s in studies]}


def run_merge(asked: argparse.Namespace) -> dict[str, object]:
    """The mean of several checkpoints."""
    from medk2n_cli.training.merge import merge

    progress = merge(asked.checkpoints, asked.out)
    return {"checkpoint": str(asked.out), "steps": progress.step, "hours": round(progress.seconds / 3600, 2)}


def run_grow(asked: argparse.Namespace) -> dict[str, object]:
    """A deeper network that at first computes the same, or a twin that begins where `small` stands."""
    from medk2n_cli.training.grow import as_twin, grow

    if asked.as_twin:
        as_twin(asked.checkpoint, asked.out)
        return {"checkpoint": str(asked.out)}
    return {"checkpoint": str(asked.out), "tensors added": grow(asked.checkpoint, asked.out)}


def run_bundle(asked: argparse.Namespace) -> dict[str, object]:
    """All that fit reads, small."""
    from medk2n_cli.training.prepare import bundle, prepare_all

    studies = prepare_all(asked.data, asked.cache / "studies", _held_out(asked), must_exist=True)
    return {"bundle": str(bundle(asked.label_maps, asked.cache / "heads", studies, asked.out))}


def run_evaluate(asked: argparse.Namespace) -> dict[str, object]:
    """Held-out studies beside the baselines."""
    from medk2n_cli.model.device import choose_device
    from medk2n_cli.model.session import open_session
    from medk2n_cli.model.store import find
    from medk2n_cli.training.checkpoint import load_any
    from medk2n_cli.training.evaluate import Rivals, evaluate, summary
    from medk2n_cli.training.gates import predictor
    from medk2n_cli.training.prepare import prepare_all, study_name, training_voxels

    session = open_session(find(asked.weights), choose_device("auto"))
    held = tuple(study_name(s) for s in asked.studies)
    _refuse_trained(held, [str(s) for s in session.weights.card.training.get("real_studies", [])])  # type: ignore[attr-defined]
    voxels = training_voxels(prepare_all(asked.data, asked.cache / "studies", held))
    beside = {name: load_any(Path(file)) for name, file in (pair.split("=", 1) for pair in asked.beside)}
    for _, progress in beside.values():
        _refuse_trained(held, progress.studies)
    rivals = Rivals(voxels, {name: predictor(network) for name, (network, _) in beside.items()})
    rows = {study_name(s): evaluate(session, s, rivals) for s in asked.studies}
    result: dict[str, object] = {name: summary(found) for name, found in rows.items()}
    return _kept(asked, result, rows={name: [r.to_dict() for r in found] for name, found in rows.items()})


def _refuse_trained(held: Sequence[str], trained: Sequence[str]) -> None:
    """Raises Refusal where a study to measure on is of a patient that was trained on."""
    from medk2n_cli.training.dataset import seen_before

    if known := seen_before(held, trained):
        raise Refusal(f"{', '.join(known)}: trained on that patient, so it says nothing; give studies held out by --hold-out")


def run_gates(asked: argparse.Namespace) -> dict[str, object]:
    """The gate test."""
    from medk2n_cli.training.checkpoint import load_any
    from medk2n_cli.training.dataset import PackedStudy
    from medk2n_cli.training.gates import gate_test, summary
    from medk2n_cli.training.prepare import prepare

    network = load_any(asked.checkpoint)[0]
    strangers = [PackedStudy.load(prepare(s, asked.cache / "studies")) for s in asked.stranger]
    cases = []
    for folder in asked.studies:
        study = PackedStudy.load(prepare(folder, asked.cache / "studies"))
        alike = [s for s in strangers if s.stripped == study.stripped and s.patient != study.patient]
        if not alike:
            kind = "stripped brain" if study.stripped else "whole head"
            raise Refusal(f"no stranger for {study.name}: give --stranger the {kind} of another patient")
        cases += gate_test(network, study, alike[0])
    result: dict[str, object] = {asked.name: {"gated": network.gated, **summary(cases)}}
    return _kept(asked, result, rows=[c.to_dict() for c in cases])


def run_origins(asked: argparse.Namespace) -> dict[str, object]:
    """R2 on each study."""
    from medk2n_cli.training.checkpoint import load_any
    from medk2n_cli.training.dataset import PackedStudy, seen_before
    from medk2n_cli.training.origins import origins
    from medk2n_cli.training.prepare import prepare_all

    network, progress = load_any(asked.checkpoint)
    studies = [PackedStudy.load(f) for f in prepare_all(asked.data, asked.cache / "studies", ())]
    known = seen_before((s.name for s in studies), progress.studies)
    result: dict[str, object] = {asked.name: {"steps": progress.step, "trained_on": known, **origins(network, studies)}}
    return _kept(asked, result)


def run_lesions(asked: argparse.Namespace) -> dict[str, object]:
    """Do lesions survive?"""
    from medk2n_cli.training import lesions
    from medk2n_cli.training.checkpoint import load_network
    from medk2n_cli.training.simulate.heads import load_heads

    network = load_network(asked.checkpoint)[0]
    cases = [lesions.read_case(folder) for folder in asked.studies]
    invented: list[dict[str, object]] = []
    if asked.label_maps:
        heads = load_heads(asked.label_maps, asked.cache / "heads")
        cases += lesions.simulated_cases(heads, "tumour", asked.count)
        healthy = lesions.simulated_cases(heads, "healthy", asked.count)
        invented = [row for head in healthy for row in lesions.invented(network, head)]
    measured = [lesions.measure(network, case) for case in cases]
    rows = [r for found, _ in measured for r in found]
    dice = [d for case, (_, found) in zip(cases, measured, strict=True) if "MS lesion" in case.parts for d in found]
    result: dict[str, object] = {"lesions": lesions.summary(rows, dice, invented)}
    return _kept(asked, result, rows=[r.to_dict() for r in rows], dice=dice, invented=invented)


def run_export(asked: argparse.Namespace) -> dict[str, object]:
    """Checkpoint to graph and card."""
    from medk2n_cli.training.checkpoint import load_network
    from medk2n_cli.training.export import Measured, export
    from medk2n_cli.training.pairs import measure_pairs

    metrics: dict[str, object] = {}
    for file in asked.metrics:
        metrics |= json.loads(file.read_text(encoding="utf-8"))["summary"]
    gates: dict[str, dict[str, float]] = {}
    if asked.label_maps:
        gates = measure_pairs(load_network(asked.checkpoint)[0], asked.label_maps, asked.cache / "heads")
    card = export(asked.checkpoint, asked.out, Measured(metrics, gates))
    return {"weights": str(asked.out), "sha256": card.sha256, "parameters": card.parameters}


def run_quantise(asked: argparse.Namespace) -> dict[str, object]:
    """An eight-bit variant, refused where it answers worse."""
    from medk2n_cli.model.store import find
    from medk2n_cli.training.dataset import PackedStudy, training_slices
    from medk2n_cli.training.prepare import prepare, prepare_all, study_name
    from medk2n_cli.training.quantise import quantise
    from medk2n_cli.training.simulate.heads import load_heads

    cache = asked.cache / "studies"
    held_out = tuple(study_name(s) for s in asked.check)
    studies = [PackedStudy.load(f) for f in prepare_all(asked.data, cache, held_out)]
    samples = training_slices(load_heads(asked.label_maps, asked.cache / "heads"), studies)
    checks = [PackedStudy.load(prepare(s, cache)) for s in asked.check]
    card = quantise(find(asked.weights), asked.out, samples, checks)
    return {"weights": str(asked.out), "sha256": card.sha256, "bytes": asked.out.stat().st_size, **card.metrics}


def run_publish(asked: argparse.Namespace) -> dict[str, object]:
    """A folder for the Hub, and what to type next."""
    from medk2n_cli.training.publish import publish

    made = publish(asked.weights, asked.out, asked.repo)
    return {"folder": str(made.folder), "files": list(made.files), "upload": made.upload, "pull": made.pull}


def run_card(asked: argparse.Namespace) -> dict[str, object]:
    """Tables and pictures of the model card."""
    from medk2n_cli.training.card_text import replaced
    from medk2n_cli.training.checkpoint import load_network
    from medk2n_cli.training.pictures import draw_cases, draw_trust
    from medk2n_cli.training.simulate.heads import load_heads

    metrics = json.loads(asked.card.read_text(encoding="utf-8"))["metrics"]
    asked.readme.write_text(replaced(asked.readme.read_text(encoding="utf-8"), metrics), encoding="utf-8")
    drawn = [draw_trust(metrics, asked.readme.with_name("trust.png"))]
    if asked.checkpoint and asked.label_maps:
        head = load_heads(asked.label_maps, asked.cache / "heads")[0]
        drawn.append(draw_cases(load_network(asked.checkpoint)[0], head, asked.readme.with_name("examples.png")))
    return {"readme": str(asked.readme), "pictures": [str(f) for f in drawn]}


def run_curves(asked: argparse.Namespace) -> dict[str, object]:
    """Training curves."""
    from medk2n_cli.training.curves import draw_curves

    return {"picture": str(draw_curves(asked.files, asked.out))}


def run_bench(asked: argparse.Namespace) -> dict[str, object]:
    """Speed as ratios."""
    from medk2n_cli.training.bench import bench

    return bench(asked.weights, asked.checkpoint, asked.slices)
