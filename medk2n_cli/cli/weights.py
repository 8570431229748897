"""Commands about weights themselves: list, pull, verify, export, import. Nothing else in medk2n downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medk2n_cli.cli.frame import JSON, answer, app

weights = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See, check, download and carry over weights; --weights NAME finds them in every command.",
    epilog="Example: medk2n weights list",
)
app.add_typer(weights, name="weights")


@weights.command("list", epilog="Example: medk2n weights list")
def list_(as_json: Annotated[bool, JSON] = False) -> None:
    """The weights there are: those that came with the installation, then pulled and imported ones."""
    from medk2n_cli.cli.keeping import list_weights, show_list

    data = list_weights()
    answer(data, as_json, show_list)


@weights.command(epilog="Example: medk2n weights pull someone/medk2n-base@main")
def pull(
    what: Annotated[str, typer.Argument(help="OWNER/NAME@REVISION on the Hugging Face Hub: a commit, a tag or a branch.")],
    digest: Annotated[str, typer.Option("--sha256", help="Refuse an ONNX file of another digest than this.")] = "",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Download weights and verify them. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HTTPS_PROXY and SSL_CERT_FILE are honoured."""
    from medk2n_cli.cli.keeping import pull_weights, show_installed

    data = pull_weights(what, digest, quiet=as_json)
    answer(data, as_json, show_installed)


@weights.command(epilog="Example: medk2n weights verify medk2n-small")
def verify(
    which: Annotated[list[str] | None, typer.Argument(help="Names or .onnx files. Default: all that there are.")] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Read weights again and compare their digests with their cards. Exit code 5 where one differs."""
    from medk2n_cli.cli.keeping import show_list, verify_weights

    data = verify_weights(which or [], quiet=as_json)
    answer(data, as_json, show_list)


@weights.command(epilog="Example: medk2n weights export medk2n-small --out weights.medk2n.zip")
def export(
    which: Annotated[str | None, typer.Argument(help="Name, or path to an .onnx file. Default: the embedded weights.")] = None,
    out: Annotated[Path, typer.Option(help="File to write, or a folder for NAME-VERSION.medk2n.zip.")] = Path("."),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Weights, card and README as one file, to carry to a host without internet."""
    from medk2n_cli.cli.keeping import export_weights, show_exported

    data = export_weights(which, out, overwrite)
    answer(data, as_json, show_exported)


@weights.command("import", epilog="Example: medk2n weights import medk2n-base-0.2.0.medk2n.zip")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that medk2n weights export wrote.")],
    digest: Annotated[str, typer.Option("--sha256", help="Refuse an ONNX file of another digest than this.")] = "",
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Verify what export wrote and keep it under NAME@VERSION. Needs no internet."""
    from medk2n_cli.cli.keeping import import_weights, show_installed

    data = import_weights(file, digest)
    answer(data, as_json, show_installed)
