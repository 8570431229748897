"""`medk2n`: the commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TextIO

import typer

from medk2n_cli import __version__
from medk2n_cli.cli.frame import JSON, LEDGER, MAX_MEMORY, RULES, STUDY, THREADS, USE, WEIGHTS, answer, app, print_json
from medk2n_cli.core.errors import Medk2nError, RequestError

BUG, STOPPED = 1, 130
__all__ = ["app", "main", "trusting", "weights"]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"medk2n {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Defaults of this site, for whatever command follows."""
    from medk2n_cli.cli.settings import default_map, options_of, said_of_here, said_of_variables, settings

    known = options_of(context.command)
    found = settings(known, os.environ, Path.cwd())
    context.default_map = default_map(found, known)
    said = said_of_here(found, context.invoked_subcommand or "", os.environ, Path.cwd())
    for line in (*filter(None, [said]), *said_of_variables(known, os.environ)):
        typer.echo(line, err=True)


@app.command(epilog="Example: medk2n synthesize --in study/ --want T2,FLAIR --out result/")
def synthesize(
    study: Annotated[
        list[Path], typer.Option("--in", help="A folder of DICOM or NIfTI files, a file, or a zip of them; may be repeated.")
    ],
    want: Annotated[
        str, typer.Option(help="Modalities to make, e.g. T2,FLAIR; 'missing' asks for all the study lacks.")
    ] = "missing",
    out: Annotated[Path, typer.Option(help="Folder for the result.")] = Path("medk2n-out"),
    use: Annotated[list[str] | None, USE] = None,
    one_study: Annotated[str | None, STUDY] = None,
    rules: Annotated[Path | None, RULES] = None,
    ignore: Annotated[str, typer.Option(help="Acquired modalities to treat as absent, e.g. FLAIR.")] = "",
    grid: Annotated[str, typer.Option(help="Output grid: auto, iso (1 mm), or that of an acquired modality, e.g. T1.")] = "auto",
    register: Annotated[bool, typer.Option("--register/--no-register", help="Align the inputs rigidly first.")] = True,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, THREADS] = 0,
    max_memory: Annotated[str, MAX_MEMORY] = "0",
    form: Annotated[
        str, typer.Option("--format", help="dicom, nifti or both; auto writes DICOM where the study is DICOM, else NIfTI.")
    ] = "auto",
    deid: Annotated[
        bool, typer.Option("--deid", help="Leave out the patient: new study UID, no names, dates or numbers.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse input unlike what the weights were trained on.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Also make each acquired contrast from the others and compare.")] = False,
    viewer: Annotated[bool, typer.Option("--viewer", help="Also write viewer.html: scroll, window, blend, offline.")] = False,
    ledger: Annotated[Path | None, LEDGER] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    as_json: Annotated[bool, JSON] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no table.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more on stderr: device, stages, seconds.")] = False,
) -> None:
    """Synthesise modalities that a study lacks, from those it has."""
    from medk2n_cli.cli.asking import Places, parse_memory, parse_request
    from medk2n_cli.cli.synthesising import Machine, Output, Talk, synthesise_to_folder

    output = Output(out, overwrite, form.lower(), deid, audit, viewer, ledger)
    request = parse_request(Places(tuple(study), one_study, rules), want, use or [], ignore, (grid, register))
    request = replace(request, dicom_only=output.dicom_only, strict=strict, nameless=deid, max_memory=parse_memory(max_memory))
    talk = Talk(quiet=quiet or as_json, verbose=verbose)
    data = synthesise_to_folder(request, output, Machine(weights, device, threads), talk)
    if as_json:
        print_json(data)


@app.command(epilog="Example: medk2n batch --in export/ --out results/ --resume")
def batch(
    export: Annotated[Path, typer.Option("--in", help="A folder of many studies, DICOM or NIfTI, sorted anyhow.")],
    out: Annotated[Path, typer.Option(help="Folder for one result folder per study, batch.csv and batch.jsonl.")],
    want: Annotated[str, typer.Option(help="Modalities to make; 'missing' asks for all that a study lacks.")] = "missing",
    rules: Annotated[Path | None, RULES] = None,
    ignore: Annotated[str, typer.Option(help="Acquired modalities to treat as absent, e.g. FLAIR.")] = "",
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, THREADS] = 0,
    max_memory: Annotated[str, MAX_MEMORY] = "0",
    form: Annotated[str, typer.Option("--format", help="auto, dicom, nifti or both.")] = "auto",
    deid: Annotated[bool, typer.Option("--deid", help="Leave out the patient.")] = False,
    viewer: Annotated[bool, typer.Option("--viewer", help="Also write viewer.html into each result.")] = False,
    ledger: Annotated[Path | None, LEDGER] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip results of the same files, options and weights; with --deid none.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")] = False,
    part: Annotated[str, typer.Option(help="Only a part of the studies: 2/8 is the second of eight.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many studies; 0 is all.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Studies read ahead while another is in the network.")] = 2,
    watch: Annotated[
        float, typer.Option(min=0, help="Wait for studies that arrive; take each when still for so many seconds. 0: do not.")
    ] = 0.0,
    cluster: Annotated[str, typer.Option(help="Dask scheduler to work on, e.g. tcp://scheduler:8786; all see the files.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which studies there are.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Synthesise many studies, weights loaded once, one row each as it goes. Exit code 8 if some failed."""
    from medk2n_cli.cli.asking import Places, parse_memory, parse_request
    from medk2n_cli.cli.batching import SOME_FAILED, Manner, Slice, run_batch, summary
    from medk2n_cli.cli.clustering import Job
    from medk2n_cli.cli.synthesising import Machine, Output

    output = Output(out.absolute(), overwrite, form.lower(), deid, viewer=viewer, ledger=ledger and ledger.absolute())
    request = parse_request(Places((export,), rules=rules), want, [], ignore, ("auto", True))
    request = replace(request, dicom_only=output.dicom_only, nameless=deid, max_memory=parse_memory(max_memory))
    job = Job(request, output, Machine(weights, device, threads), resume or watch > 0)
    data = run_batch(export.absolute(), job, Slice.parse(part, limit), Manner(jobs, watch, cluster, dry_run))
    failed = [row for row in data["rows"] if row["status"] == "failed"]
    if as_json:
        again = "Mend what its problem says and run the same command with --resume."
        errors = [{"code": r["code"], "problem": f"{r['study']}: {r['problem']}", "next_step": again} for r in failed]
        print_json(data, SOME_FAILED if failed else 0, errors)
    else:
        typer.echo(f"{out}: {summary(data)}")
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example: medk2n scan study/")
def scan(
    study: Annotated[list[Path], typer.Argument(help="Folders of DICOM or NIfTI files, files, or zips of them.")],
    use: Annotated[list[str] | None, USE] = None,
    one_study: Annotated[str | None, STUDY] = None,
    rules: Annotated[Path | None, RULES] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what every series of a study is taken for, and why. Nothing is computed or written."""
    from medk2n_cli.cli.asking import Places
    from medk2n_cli.cli.scanning import scan_report, show_scan

    data = scan_report(Places(tuple(study), one_study, rules), use or [])
    answer(data, as_json, show_scan)


@app.command("inspect-weights", epilog="Example: medk2n inspect-weights medk2n-small")
def inspect_weights(
    which: Annotated[str | None, typer.Argument(help="Name, or path to an .onnx file. Default: the embedded weights.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show what weights are: card, graph contract, gate nodes, what training measured."""
    from medk2n_cli.cli.inspecting import inspect, show_inspection

    data = inspect(which)
    answer(data, as_json, show_inspection)


@app.command(epilog="Example: medk2n doctor --json")
def doctor(as_json: Annotated[bool, JSON] = False) -> None:
    """Examine this machine and installation: packages, devices, weights, a self-test. Paste it into a bug report."""
    from medk2n_cli.cli.doctoring import examine, fail_if_ill, show_examination

    data = examine()
    if not as_json:
        show_examination(data)
    fail_if_ill(data)
    if as_json:
        print_json(data)


@app.command(epilog="Example: medk2n config --json")
def config(context: typer.Context, as_json: Annotated[bool, JSON] = False) -> None:
    """Print every option's value and whence: medk2n.toml, a MEDK2N_* variable, or built in.

    MEDK2N_WEIGHTS sets --weights of all commands, MEDK2N_BATCH_OUT only that of batch; in medk2n.toml the same stands as
    weights = "..." at the top, or out = "..." below [batch]. The command line wins, then variables, then the file, which
    is MEDK2N_CONFIG ("none": no file), ./medk2n.toml, or medk2n/medk2n.toml in the user's configuration folder.
    """
    from medk2n_cli.cli.configuring import configuration, show_configuration

    data = configuration(context.find_root().command)
    answer(data, as_json, show_configuration)


@app.command(epilog="Example: medk2n demo --out demo/")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the study and the result.")] = Path("medk2n-demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a small simulated study (T1 and T2 of a head nobody owns) and synthesise what it lacks."""
    from medk2n_cli.cli.demonstrating import run_demo
    from medk2n_cli.cli.synthesising import Talk

    data = run_demo(out, overwrite, Talk(quiet=as_json))
    if as_json:
        print_json(data)


from medk2n_cli.cli import trusting, weights  # noqa: E402 - their commands stand after those above in the help


def _lists_once(words: list[str]) -> None:
    """Of an option given twice only the last counts, as everywhere; of a list that would pass over the first in silence."""
    for option in ("--want", "--ignore"):
        given = [w.partition("=")[0] for w in words].count(option)
        if given > 1:
            raise RequestError(
                f"{option} is given {given} times, and only the last would count.",
                next_step=f"Give one list: {option} T2,FLAIR.",
                code="GIVEN_TWICE",
            )


def main() -> None:
    """Entry point of the `medk2n` command: errors become two lines (or one JSON object) and an exit code."""
    asked_json = "--json" in sys.argv[1:]
    sys.stderr = _own_stderr()
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminated)
    try:
        _lists_once(sys.argv[1:])
        app()
    except Medk2nError as failure:
        _fail(failure, asked_json)
        sys.exit(failure.exit_code)
    except SystemExit as leaving:
        if leaving.code == STOPPED:  # Typer makes one of Ctrl-C
            _fail(_stopped(), asked_json, STOPPED)
        if asked_json and leaving.code == 2:
            _fail(
                Medk2nError("The command line is not understood; see stderr.", next_step="medk2n --help", code="USAGE"), True, 2
            )
        raise
    except KeyboardInterrupt:
        _fail(_stopped(), asked_json, STOPPED)
        sys.exit(STOPPED)
    except Exception:
        traceback.print_exc()
        bug = Medk2nError(
            "This is a bug in medk2n.", next_step="Please report it with the lines above and your command.", code="BUG"
        )
        _fail(bug, asked_json, BUG)
        sys.exit(BUG)


def _own_stderr() -> TextIO:
    """Our own way to where stderr leads: descriptor 2 is silenced while C++ libraries read files, in other threads too."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return sys.stderr


def _stopped() -> Medk2nError:
    return Medk2nError("Stopped; nothing was left half-written.", next_step="Give the same command again.", code="STOPPED")


def _terminated(*_: object) -> None:
    """A scheduler's SIGTERM ends like Ctrl-C, so that whatever was unpacked or staged is removed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second one would cut the tidying short
    raise KeyboardInterrupt


def _fail(failure: Medk2nError, as_json: bool, exit_code: int | None = None) -> None:
    code = failure.exit_code if exit_code is None else exit_code
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "schema": "medk2n.cli/1",
                    "status": "error",
                    "exit_code": code,
                    "data": None,
                    "errors": [failure.to_dict()],
                },
                ensure_ascii=False,
            )
        )
    typer.echo(f"error: {failure.problem}\nnext:  {failure.next_step}", err=True)
