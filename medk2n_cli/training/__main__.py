"""`python -m medk2n_cli.training COMMAND`: simulate, train, measure, export."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from medk2n_cli.core.errors import Medk2nError, RequestError
from medk2n_cli.training import commands
from medk2n_cli.training.recipe import Recipe
from medk2n_cli.training.refusal import Refusal

CACHE = Path.home() / ".cache" / "medk2n" / "training"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and run one command; results are printed as JSON on stdout."""
    asked = _parser().parse_args(arguments)
    result = asked.run(asked)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m medk2n_cli.training", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    maps = {"type": Path, "required": True, "help": "folder of head_*.nii.gz label maps"}

    simulate = verbs.add_parser("simulate", help="label maps in, aligned six-contrast studies out")
    simulate.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    simulate.add_argument("--out", type=Path, required=True, help="folder for the studies")
    simulate.add_argument("--count", type=int, default=1)
    simulate.add_argument("--seed", type=int, default=0, help="of the first study; the same seed gives the same study")
    simulate.add_argument("--slices", type=int, default=None, help="only so many slices around the brain's centre")
    simulate.add_argument("--demo", action="store_true", help="whole heads, 5 mm slices: how medk2n_cli/_demo was made")
    simulate.add_argument("--sheet", action="store_true", help="also a contact sheet, sheet.png")
    simulate.add_argument("--cache", type=Path, default=CACHE)
    simulate.set_defaults(run=commands.run_simulate)

    fit = verbs.add_parser("fit", help="train, or go on training")
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
    fit.add_argument("--spoiled", type=float, default=Recipe.corrupted, help="share of steps with an input that is no good")
    fit.add_argument("--rate", type=float, default=1e-3)
    fit.add_argument("--whole-slices", type=float, default=Recipe.whole_slices, help="the last share of the run, on whole slices")
    fit.add_argument("--only", default="", metavar="PREFIX,...", help="train these parameters alone: preweight.gain at the end")
    fit.add_argument("--seed", type=int, default=1)
    fit.add_argument("--cache", type=Path, default=CACHE)
    fit.set_defaults(run=commands.run_fit)

    merge = verbs.add_parser("merge", help="the mean of runs that went on from one checkpoint side by side")
    merge.add_argument("checkpoints", type=Path, nargs="+", help="two or more")
    merge.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    merge.set_defaults(run=commands.run_merge)

    grow = verbs.add_parser(
        "grow", help="a checkpoint of before its size got more blocks, or the twin of small, ready for fit --resume"
    )
    grow.add_argument("checkpoint", type=Path)
    grow.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    grow.add_argument("--as-twin", action="store_true", help="no new blocks: the twin, for fit --size average --resume")
    grow.set_defaults(run=commands.run_grow)

    bundle = verbs.add_parser("bundle", help="all that fit reads, small: for a GPU machine that holds nothing else")
    bundle.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    bundle.add_argument("--data", type=Path, action="append", default=[], help="folder of study folders; may be repeated")
    bundle.add_argument("--hold-out", default="", help="names of study folders to leave out, comma separated")
    bundle.add_argument("--out", type=Path, required=True, help="OUT/heads and OUT/studies are --label-maps and --data of fit")
    bundle.add_argument("--cache", type=Path, default=CACHE)
    bundle.set_defaults(run=commands.run_bundle)

    evaluate = verbs.add_parser("evaluate", help="weights on held-out studies, beside the baselines, protocols H, W and P")
    evaluate.add_argument("studies", type=Path, nargs="+", help="study folders that hold several contrasts")
    evaluate.add_argument("--data", type=Path, action="append", default=[], help="training studies, for the baselines")
    evaluate.add_argument("--weights", default=None, help="name or .onnx file")
    evaluate.add_argument("--beside", action="append", default=[], metavar="NAME=CHECKPOINT", help="another network, say a twin")
    evaluate.add_argument("--cache", type=Path, default=CACHE)
    evaluate.add_argument("--out", type=Path, default=None, help="also write every row to this JSON file")
    evaluate.set_defaults(run=commands.run_evaluate)

    gates = verbs.add_parser("gates", help="the gate test: noise, another subject, a shift of 10 mm, against each subset")
    gates.add_argument("studies", type=Path, nargs="+", help="study folders that hold three contrasts or more")
    gates.add_argument("--checkpoint", type=Path, required=True)
    gates.add_argument("--stranger", type=Path, action="append", required=True, help="study folder of another subject")
    gates.add_argument("--name", default="gate test", help="under which the card tells it, say 'gate test of (c)'")
    gates.add_argument("--cache", type=Path, default=CACHE)
    gates.add_argument("--out", type=Path, default=None, help="also write every case to this JSON file")
    gates.set_defaults(run=commands.run_gates)

    origins = verbs.add_parser("origins", help="R2 on studies of many origins, each apart")
    origins.add_argument("--checkpoint", type=Path, required=True)
    origins.add_argument("--data", type=Path, action="append", required=True, help="folder of study folders; may be repeated")
    origins.add_argument("--name", default="origins", help="under which the card tells it, say 'trained on simulations alone'")
    origins.add_argument("--cache", type=Path, default=CACHE)
    origins.add_argument("--out", type=Path, default=None)
    origins.set_defaults(run=commands.run_origins)

    lesions = verbs.add_parser("lesions", help="do lesions survive synthesis, and are none invented?")
    lesions.add_argument("studies", type=Path, nargs="*", help="study folders with lesions.nii.gz beside the contrasts")
    lesions.add_argument("--checkpoint", type=Path, required=True)
    lesions.add_argument("--label-maps", type=Path, default=None, help="also simulated tumours and healthy heads")
    lesions.add_argument("--count", type=int, default=6, help="how many simulated heads of each kind")
    lesions.add_argument("--cache", type=Path, default=CACHE)
    lesions.add_argument("--out", type=Path, default=None, help="also write every lesion to this JSON file")
    lesions.set_defaults(run=commands.run_lesions)

    export = verbs.add_parser("export", help="checkpoint to NAME.onnx and its card, in one act")
    export.add_argument("--checkpoint", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="the .onnx file")
    export.add_argument("--metrics", type=Path, action="append", default=[], help="JSON of evaluate, for the card")
    export.add_argument("--label-maps", type=Path, default=None, help="measure the gates of clean pairs for the card")
    export.add_argument("--cache", type=Path, default=CACHE)
    export.set_defaults(run=commands.run_export)

    quantise = verbs.add_parser("quantise", help="a variant of exported weights that computes in eight bits: faster on a CPU")
    quantise.add_argument("--weights", default=None, help="name or .onnx file")
    quantise.add_argument("--label-maps", **maps)  # type: ignore[arg-type]
    quantise.add_argument("--data", type=Path, action="append", default=[], help="training studies; may be repeated")
    quantise.add_argument("--check", type=Path, action="append", required=True, help="held-out study folder; may be repeated")
    quantise.add_argument("--out", type=Path, required=True, help="the .onnx file")
    quantise.add_argument("--cache", type=Path, default=CACHE)
    quantise.set_defaults(run=commands.run_quantise)

    publish = verbs.add_parser("publish", help="a folder to upload to the Hugging Face Hub; nothing is uploaded")
    publish.add_argument("weights", type=Path, help="the .onnx file, its card beside it")
    publish.add_argument("--out", type=Path, required=True, help="new folder for README.md, ONNX and JSON")
    publish.add_argument("--repo", default="", metavar="OWNER/NAME", help="for the commands that are printed")
    publish.set_defaults(run=commands.run_publish)

    card = verbs.add_parser("card", help="the measured part of weights/README.md and its pictures, made from the card")
    card.add_argument("card", type=Path, help="NAME.json beside the weights")
    card.add_argument("--readme", type=Path, required=True)
    card.add_argument("--checkpoint", type=Path, default=None, help="also draw examples.png beside the README")
    card.add_argument("--label-maps", type=Path, default=None, help="heads for the examples")
    card.add_argument("--cache", type=Path, default=CACHE)
    card.set_defaults(run=commands.run_card)

    curves = verbs.add_parser("curves", help="training curves as PNG")
    curves.add_argument("files", type=Path, nargs="+", help="*.curves.jsonl, in the order of the runs")
    curves.add_argument("--out", type=Path, required=True)
    curves.set_defaults(run=commands.run_curves)

    bench = verbs.add_parser("bench", help="speed as ratios, all measured in this run")
    bench.add_argument("--weights", default=None)
    bench.add_argument("--checkpoint", type=Path, default=None, help="the same weights for eager torch")
    bench.add_argument("--slices", type=int, default=32)
    bench.set_defaults(run=commands.run_bench)
    return parser


def _told(arguments: Sequence[str] | None = None) -> int:
    """`main`; what is refused is said in one line, and the exit code is the tool's own."""
    try:
        main(arguments)
    except Medk2nError as failure:
        sys.stderr.write(f"error: {failure.problem}\nnext: {failure.next_step}\n")
        return failure.exit_code
    except Refusal as failure:
        sys.stderr.write(f"error: {failure}\n")
        return RequestError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_told())
