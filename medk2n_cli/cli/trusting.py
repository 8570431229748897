"""Commands about results that are there: audit, compare, verify, send, ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medk2n_cli.cli.frame import JSON, RULES, STUDY, USE, WEIGHTS, answer, app, print_json


@app.command(epilog="Example: medk2n audit --in study/ --out audit/")
def audit(
    study: Annotated[
        list[Path], typer.Option("--in", help="A study: folder, zip or file; repeated, each is a study of its own.")
    ],
    want: Annotated[str, typer.Option(help="Acquired modalities to try, e.g. T2,FLAIR; 'all' tries each.")] = "all",
    out: Annotated[Path, typer.Option(help="Folder for pages, audit.csv and audit.json.")] = Path("medk2n-audit"),
    use: Annotated[list[str] | None, USE] = None,
    one_study: Annotated[str | None, STUDY] = None,
    rules: Annotated[Path | None, RULES] = None,
    register: Annotated[bool, typer.Option("--register/--no-register", help="Align the inputs rigidly first.")] = True,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier audit in --out.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Synthesise each acquired contrast from the others and compare: how the weights do on this scanner and patient."""
    from medk2n_cli.cli.asking import Places, parse_request
    from medk2n_cli.cli.auditing import audit_studies, fail_on_some
    from medk2n_cli.cli.synthesising import Machine
    from medk2n_cli.cli.tables import audit_table

    wanted = "missing" if want.strip().lower() == "all" else want
    request = parse_request(Places(tuple(study), one_study, rules), wanted, use or [], "", ("auto", register))
    data, told = audit_studies(request, out, Machine(weights, device), overwrite)
    if not as_json:
        audit_table(data["rows"])
        typer.echo(f"written to {out}: audit.csv, audit.json, audit_*.html")
    fail_on_some(data, told)
    if as_json:
        print_json(data)


@app.command(epilog="Example: medk2n compare result/ FLAIR.nii.gz --out difference/")
def compare(
    a: Annotated[Path, typer.Argument(help="A result folder, a study, or an image: what is compared with.")],
    b: Annotated[Path, typer.Argument(help="Another one: what is compared.")],
    modality: Annotated[str, typer.Option(help="Only this contrast; also what an image is whose name does not say it.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for difference images and numbers.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison in --out.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Two results, or a result and a real volume: same place, metrics, difference images."""
    from medk2n_cli.cli.comparing import compare_images, show_comparison

    data = compare_images(a, b, modality, out, overwrite)
    answer(data, as_json, show_comparison)


@app.command(epilog="Example: medk2n verify result/")
def verify(
    result: Annotated[Path, typer.Argument(help="A folder that synthesize wrote.")],
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Read a result again: files complete and unchanged, NIfTI and DICOM alike, every image marked synthetic."""
    from medk2n_cli.cli.verifying import show_verified, verify_result

    data = verify_result(result, quiet=as_json)
    answer(data, as_json, show_verified)


@app.command(epilog="Example: medk2n send result/ --to ORTHANC@pacs:104")
def send(
    result: Annotated[Path, typer.Argument(help="A folder that synthesize wrote, with DICOM in it.")],
    to: Annotated[str, typer.Option(help="The PACS: AET@host:port.")],
    calling: Annotated[str, typer.Option("--from", help="Our own AE title.")] = "MEDK2N",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Send the DICOM objects of a result to a PACS, after verifying it. Only this and `weights pull` open a connection."""
    from medk2n_cli.cli.sending import send_result, show_sent

    data = send_result(result, to, calling, quiet=as_json)
    answer(data, as_json, show_sent)


@app.command(epilog="Example: medk2n ledger synthetic.jsonl --weights 3fa2c1")
def ledger(
    file: Annotated[Path, typer.Argument(help="The file that --ledger was given.")],
    weights: Annotated[str, typer.Option(help="Only what these weights made: a name, or the beginning of a SHA-256.")] = "",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List every synthetic object in a ledger: what must be recalled when weights turn out bad."""
    from medk2n_cli.cli.recalling import recall, show_recall

    data = recall(file, weights)
    answer(data, as_json, show_recall)
