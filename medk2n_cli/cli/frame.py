"""The frame that every command hangs in: the Typer application, options that several commands share, the JSON answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

app = typer.Typer(
    name="medk2n",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Synthesise missing MR contrasts with Med-K2N, and say how far to trust them. Research use only, not for diagnosis.",
    epilog="Example: medk2n synthesize --in study/ --want T2,FLAIR --out result/",
)

JSON = typer.Option("--json", help="Print one JSON object on stdout, also when it fails.")
WEIGHTS = typer.Option("--weights", help="Weights by name, or a path to an .onnx file. Default: the embedded ones.")
USE = typer.Option("--use", help="T1=FILE, or T1=SERIES NUMBER: this is the T1, whatever it is called. May be repeated.")
STUDY = typer.Option("--study", help="UID of the study to take, where the folder holds several DICOM studies.")
RULES = typer.Option("--rules", help="JSON file of patterns on DICOM tags that say what this site calls its series.")
THREADS = typer.Option(min=0, help="CPU threads of the network; 0 lets the runtime decide.")
MAX_MEMORY = typer.Option(help="Refuse a study that would take more, e.g. 3G; in a batch, share so much. 0 is no limit.")
LEDGER = typer.Option(help="Append a line per synthetic object to this file; see medk2n ledger.")


def answer(data: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    """What a command that worked says: one JSON object, or `show` for people."""
    if as_json:
        print_json(data)
    else:
        show(data)


def print_json(data: dict[str, object], exit_code: int = 0, errors: Sequence[Mapping[str, object]] = ()) -> None:
    """The one object that `--json` prints of a command that worked, or worked in part."""
    status = "error" if exit_code else "ok"
    told = {"schema": "medk2n.cli/1", "status": status, "exit_code": exit_code, "data": data, "errors": list(errors)}
    typer.echo(json.dumps(told, ensure_ascii=False))
