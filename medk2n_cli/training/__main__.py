"""`python -m medk2n_cli.training simulate | fit | bundle | evaluate | gates | lesions | export | bench | curves`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from medk2n_cli.training.recipe import Recipe

CACHE = Path.home() / ".cache" / "medk2n" / "training"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run one command; results are printed as JSON on stdout."""
    asked = _parser().parse_args(arguments)
    result = asked.run(asked)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medk2n_cli.training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    maps = {"type": Path, "required": True, "help": "folder of head_*.nii.gz label maps"}

    simulate = commands.add_parser("simulate", help="label maps in, aligned six-contrast studies out")
    simulate.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    simulate.add_argument("--out", type=Path, required=True, help="folder for the studies")
    simulate.add_argument("--count", type=int, default=1)
    simulate.add_argument("--seed", type=int, default=0, help="of the first study; the same seed gives the same study")
    simulate.add_argument("--slices", type=int, default=None, help="only so many slices around the brain's centre")
    simulate.add_argument("--demo", action="store_true", help="whole heads, 5 mm slices: how medk2n_cli/_demo was made")
    simulate.add_argument("--sheet", action="store_true", help="also a contact sheet, sheet.png")
    simulate.add_argument("--cache", type=Path, default=CACHE)
    simulate.set_defaults(run=_simulate)

    fit = commands.add_parser("fit", help="train, or go on training")
    fit.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    fit.add_argument("--checkpoint", type=Path, required=True, help="file to write, and with --resume to start from")
    length = fit.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, default=0.0)
    length.add_argument("--steps", type=int, default=0)
    fit.add_argument("--resume", action="store_true")
    fit.add_argument("--data", type=Path, action="append", default=[], help="folder of study folders, or of prepared studies")
    fit.add_argument("--hold-out", default="", help="names of study folders never to train on, comma separated")
    kinds = ("small", "base", "average", "mm-synthesis")
    fit.add_argument("--size", choices=kinds, default="small", help="average and mm-synthesis are what small is measured against")
    fit.add_argument("--encoder", choices=("conv", "sam2"), default="conv", help="sam2: Hiera with LoRA, needs the sam2 extra")
    fit.add_argument("--encoder-weights", default="", metavar="WHERE", help="of sam2: NAME[@REVISION] on the Hub, or a folder")
    fit.add_argument("--warm-steps", type=int, default=Recipe.warm_steps, help="steps with every clean gate held open")
    fit.add_argument("--rate", type=float, default=1e-3)
    fit.add_argument("--seed", type=int, default=1)
    fit.add_argument("--cache", type=Path, default=CACHE)
    fit.set_defaults(run=_fit)

    bundle = commands.add_parser("bundle", help="all that fit reads, small: for a GPU machine that holds nothing else")
    bundle.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    bundle.add_argument("--data", type=Path, action="append", default=[], help="folder of study folders; may be repeated")
    bundle.add_argument("--hold-out", default="", help="names of study folders to leave out, comma separated")
    bundle.add_argument("--out", type=Path, required=True, help="OUT/heads and OUT/studies are --label-maps and --data of fit")
    bundle.add_argument("--cache", type=Path, default=CACHE)
    bundle.set_defaults(run=_bundle)

    evaluate = commands.add_parser("evaluate", help="weights on held-out studies, beside the baselines, protocols H, W and P")
    evaluate.add_argument("studies", type=Path, nargs="+", help="study folders that hold several contrasts")
    evaluate.add_argument("--data", type=Path, action="append", default=[], help="training studies, for the baselines")
    evaluate.add_argument("--weights", default=None, help="name or .onnx file")
    evaluate.add_argument("--beside", action="append", default=[], metavar="NAME=CHECKPOINT", help="another network, say a twin")
    evaluate.add_argument("--cache", type=Path, default=CACHE)
    evaluate.add_argument("--out", type=Path, default=None, help="also write every row to this JSON file")
    evaluate.set_defaults(run=_evaluate)

    gates = commands.add_parser("gates", help="the gate test: noise, another subject, a shift of 10 mm, against each subset")
    gates.add_argument("studies", type=Path, nargs="+", help="study folders that hold three contrasts or more")
    gates.add_argument("--checkpoint", type=Path, required=True)
    gates.add_argument("--stranger", type=Path, action="append", required=True, help="study folder of another subject")
    gates.add_argument("--cache", type=Path, default=CACHE)
    gates.add_argument("--out", type=Path, default=None, help="also write every case to this JSON file")
    gates.set_defaults(run=_gates)

    lesions = commands.add_parser("lesions", help="do lesions survive synthesis, and are none invented?")
    lesions.add_argument("studies", type=Path, nargs="*", help="study folders with lesions.nii.gz beside the contrasts")
    lesions.add_argument("--checkpoint", type=Path, required=True)
    lesions.add_argument("--label-maps", type=Path, default=None, help="also simulated tumours and healthy heads")
    lesions.add_argument("--count", type=int, default=6, help="how many simulated heads of each kind")
    lesions.add_argument("--cache", type=Path, default=CACHE)
    lesions.add_argument("--out", type=Path, default=None, help="also write every lesion to this JSON file")
    lesions.set_defaults(run=_lesions)

    export = commands.add_parser("export", help="checkpoint to NAME.onnx and its card, in one act")
    export.add_argument("--checkpoint", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="the .onnx file")
    export.add_argument("--metrics", type=Path, action="append", default=[], help="JSON of evaluate, for the card")
    export.add_argument("--label-maps", type=Path, default=None, help="measure the gates of clean pairs for the card")
    export.add_argument("--cache", type=Path, default=CACHE)
    export.set_defaults(run=_export)

    curves = commands.add_parser("curves", help="training curves as PNG")
    curves.add_argument("files", type=Path, nargs="+", help="*.curves.jsonl, in the order of the runs")
    curves.add_argument("--out", type=Path, required=True)
    curves.set_defaults(run=_curves)

    bench = commands.add_parser("bench", help="speed as ratios, all measured in this run")
    bench.add_argument("--weights", default=None)
    bench.add_argument("--checkpoint", type=Path, default=None, help="the same weights for eager torch")
    bench.add_argument("--slices", type=int, default=32)
    bench.set_defaults(run=_bench)
    return parser


def _simulate(asked: argparse.Namespace) -> dict[str, object]:
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


def _fit(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.training.fit import Sources, fit
    from medk2n_cli.training.prepare import prepare_all

    held = tuple(n for n in asked.hold_out.split(",") if n)
    studies = prepare_all(asked.data, asked.cache / "studies", held)
    recipe = Recipe(
        size=asked.size,
        minutes=asked.minutes,
        steps=asked.steps,
        warm_steps=asked.warm_steps,
        rate=asked.rate,
        seed=asked.seed,
        encoder=asked.encoder,
        encoder_weights=asked.encoder_weights,
    )
    file = fit(recipe, Sources(asked.label_maps, asked.cache / "heads", studies), asked.checkpoint, asked.resume)
    return {"checkpoint": str(file), "studies": [s.stem for s in studies]}


def _bundle(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.training.prepare import bundle, prepare_all

    studies = prepare_all(asked.data, asked.cache / "studies", tuple(n for n in asked.hold_out.split(",") if n))
    return {"bundle": str(bundle(asked.label_maps, asked.cache / "heads", studies, asked.out))}


def _evaluate(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.model.device import choose_device
    from medk2n_cli.model.session import open_session
    from medk2n_cli.model.store import find
    from medk2n_cli.training.checkpoint import load_any
    from medk2n_cli.training.evaluate import Rivals, evaluate, summary
    from medk2n_cli.training.prepare import prepare_all, training_voxels
    from medk2n_cli.training.twins import predictor

    session = open_session(find(asked.weights), choose_device("auto"))
    held = tuple(s.name for s in asked.studies)
    voxels = training_voxels(prepare_all(asked.data, asked.cache / "studies", held))
    named = (pair.split("=", 1) for pair in asked.beside)
    rivals = Rivals(voxels, {name: predictor(load_any(Path(file))[0]) for name, file in named})
    rows = {s.name: evaluate(session, s, rivals) for s in asked.studies}
    result: dict[str, object] = {name: summary(found) for name, found in rows.items()}
    if asked.out:
        every = {name: [r.to_dict() for r in found] for name, found in rows.items()}
        asked.out.write_text(json.dumps({"summary": result, "rows": every}, indent=1) + "\n", encoding="utf-8")
    return result


def _gates(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.training.checkpoint import load_any
    from medk2n_cli.training.dataset import PackedStudy
    from medk2n_cli.training.gates import gate_test, summary
    from medk2n_cli.training.prepare import prepare

    network = load_any(asked.checkpoint)[0]
    strangers = [PackedStudy.load(prepare(s, asked.cache / "studies")) for s in asked.stranger]
    cases = []
    for folder in asked.studies:
        study = PackedStudy.load(prepare(folder, asked.cache / "studies"))
        alike = [s for s in strangers if s.stripped == study.stripped and s.name != study.name]
        cases += gate_test(network, study, alike[0])
    result: dict[str, object] = {"gate test": summary(cases)}
    if asked.out:
        rows = [c.to_dict() for c in cases]
        asked.out.write_text(json.dumps({"summary": result, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return result


def _lesions(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.core.modality import Modality
    from medk2n_cli.training import lesions
    from medk2n_cli.training.checkpoint import load_network
    from medk2n_cli.training.simulate.heads import load_heads

    network = load_network(asked.checkpoint)[0]
    cases = [lesions.read_case(folder) for folder in asked.studies]
    invented: list[float] = []
    if asked.label_maps:
        heads = load_heads(asked.label_maps, asked.cache / "heads")
        cases += lesions.simulated_cases(heads, "tumour", asked.count)
        healthy = lesions.simulated_cases(heads, "healthy", asked.count)
        invented = [lesions.invented_ml(network, h, (Modality.T1, Modality.T2), Modality.FLAIR) for h in healthy]
    measured = [lesions.measure(network, case) for case in cases]
    rows, dice = [r for found, _ in measured for r in found], [d for case, (_, found) in zip(cases, measured, strict=True)
                                                                for d in found if case.kind == "MS lesion"]  # fmt: skip
    result: dict[str, object] = {"lesions": lesions.summary(rows, dice, invented)}
    if asked.out:
        told = {"summary": result, "rows": [r.to_dict() for r in rows], "dice": dice}
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return result


def _export(asked: argparse.Namespace) -> dict[str, object]:
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


def _curves(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.training.curves import draw_curves

    return {"picture": str(draw_curves(asked.files, asked.out))}


def _bench(asked: argparse.Namespace) -> dict[str, object]:
    from medk2n_cli.training.bench import bench

    return bench(asked.weights, asked.checkpoint, asked.slices)


if __name__ == "__main__":
    main()
