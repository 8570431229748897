"""`medk2n weights ...`: what the commands do, as data, and how it is shown."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import typer

from medk2n_cli.cli.tables import console, table
from medk2n_cli.core.errors import Medk2nError, OutputError, RequestError, WeightsError
from medk2n_cli.digest import sha256_of
from medk2n_cli.model.archive import SUFFIX, read_archive, stored_name, write_archive
from medk2n_cli.model.card import read_card
from medk2n_cli.model.hub import HubRevision, download
from medk2n_cli.model.install import Installed, install, source_of, staging
from medk2n_cli.model.store import find, installed, is_embedded, user_folder

_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def list_weights() -> dict[str, Any]:
    """Every pair, from its card alone: digests are for `verify_weights`."""
    return {"folder": str(user_folder()), "weights": [_row(name, file) for name, file in installed().items()]}


def verify_weights(which: list[str], quiet: bool) -> dict[str, Any]:
    """Every pair, its digest computed; a bad one is an error, after all were looked at.

    Raises:
        WeightsError: the first that is damaged, or not found.
    """
    asked = {str(w): w for w in which} if which else {name: str(file) for name, file in installed().items()}
    rows, failures = [], []
    for name, place in asked.items():
        try:
            rows.append(_row(name, find(place).file) | {"verified": True})
        except WeightsError as failure:
            failures.append(failure)
            rows.append({"name": name, "verified": False, "problem": failure.problem})
    data: dict[str, Any] = {"folder": str(user_folder()), "weights": rows}
    if failures:
        if not quiet:
            show_list(data, stderr=True)
        raise failures[0]
    return data


def export_weights(which: str | None, out: Path, overwrite: bool) -> dict[str, Any]:
    """One file with the verified pair in it.

    Raises:
        WeightsError: not found or damaged.
        OutputError: the file is there already, or cannot be written.
    """
    weights = find(which)
    file = out / f"{stored_name(weights.card).replace('@', '-')}{SUFFIX}" if out.is_dir() else out
    if file.exists() and not overwrite:
        raise OutputError(f"{file} is there already.", next_step="Give another --out, or --overwrite.", code="OUT_NOT_EMPTY")
    write_archive(weights, file)
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "archive_sha256": sha256_of(file),
        "name": weights.card.name,
        "version": weights.card.version,
        "sha256": weights.card.sha256,
    }


def import_weights(file: Path, digest: str) -> dict[str, Any]:
    """The pair of an exported file, verified and installed.

    Raises:
        WeightsError: not such a file, damaged, not a graph this version runs, or other weights have its name.
        OutputError: the weights folder cannot be written.
    """
    wanted = _digest(digest)
    with staging() as folder:
        unpacked = read_archive(file, folder)
        return _answer(install(unpacked, {"kind": "import", "archive": file.name}, wanted), {})


def pull_weights(what: str, digest: str, quiet: bool) -> dict[str, Any]:
    """The pair at a revision of a Hub repository, verified and installed.

    Raises:
        RequestError: no revision, or not a digest.
        WeightsError: it cannot be had, is damaged or another than asked for, or other weights have its name.
        OutputError: the download cache or the weights folder cannot be written.
    """
    asked, wanted = HubRevision.parse(what), _digest(digest)
    _name_site_certificates()
    with staging():  # a folder that cannot be written costs no download
        snapshot = download(asked, progress=not quiet and sys.stderr.isatty())
        origin = {"repo": asked.repo, "revision": asked.revision, "commit": snapshot.commit}
        return _answer(install(snapshot.file, {"kind": "pull", **origin}, wanted), origin)


def show_list(data: dict[str, Any], stderr: bool = False) -> None:
    """One row per pair, problems under them."""
    out = console(stderr=stderr)
    head = ("name", "version", "MB", "sha256", "licence", "from")
    rows = [
        (w["name"], w["version"], f"{w['bytes'] / 2**20:.1f}", w["sha256"][:12], w["licence"], _from(w))
        for w in data["weights"]
        if not w.get("problem")
    ]
    if rows:
        out.print(table("", head, rows, right=(2,)))
    for bad in (w for w in data["weights"] if w.get("problem")):
        typer.echo(f"bad: {bad['name']}: {bad['problem']}", err=stderr)
    if verified := [w for w in data["weights"] if w.get("verified")]:
        typer.echo(f"verified: {len(verified)} of {len(data['weights'])}, digests as in the cards", err=stderr)
    typer.echo(f"pulled and imported weights live in {data['folder']}", err=stderr)


def show_installed(data: dict[str, Any]) -> None:
    """What it is called now, and how to get the very same again."""
    how = "verified and installed" if data["new"] else "verified; these very weights were there already"
    typer.echo(f"{data['name']}: {how}")
    typer.echo(f"sha256 {data['sha256']}")
    if "commit" in data:
        typer.echo(f"commit {data['commit']} ({data['revision']})")
        typer.echo(f"again: medk2n weights pull {data['repo']}@{data['commit']} --sha256 {data['sha256']}")
    typer.echo(f"use:   --weights {data['name']}")


def show_exported(data: dict[str, Any]) -> None:
    """The file, and what to type where it is carried to."""
    typer.echo(f"{data['file']}: {data['name']} {data['version']}, {data['bytes'] / 2**20:.1f} MB")
    typer.echo(f"sha256 of this file {data['archive_sha256']}")
    typer.echo(f"there: medk2n weights import {Path(data['file']).name} --sha256 {data['sha256']}")


def _row(name: str, file: Path) -> dict[str, Any]:
    try:
        card = read_card(file)
    except Medk2nError as failure:
        return {"name": name, "file": str(file), "problem": failure.problem}
    return {
        "name": name,
        "version": card.version,
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": card.sha256,
        "licence": card.licence,
        "embedded": is_embedded(file),
        "source": {k: v for k, v in source_of(file).items() if k != "schema"},
    }


def _from(row: dict[str, Any]) -> str:
    if row["embedded"]:
        return "installation"
    source = row["source"]
    if source.get("kind") == "pull":
        return f"{source.get('repo')}@{str(source.get('commit'))[:7]}"
    return "imported" if source else Path(row["file"]).parent.name


def _answer(done: Installed, origin: dict[str, str]) -> dict[str, Any]:
    card = done.card
    return {"name": done.name, "file": str(done.file), "new": done.new, "version": card.version, "sha256": card.sha256, **origin}


def _digest(text: str) -> str:
    if not text or re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    raise RequestError(
        f"--sha256 takes 64 digits, not '{text[:80]}'.",
        next_step="Copy the digest as a whole, without spaces.",
        code="BAD_DIGEST",
    )


def _name_site_certificates() -> None:
    """Tell every HTTP library what one of them was told: huggingface_hub has changed its own twice, each with another variable.

    Raises:
        WeightsError: the file does not exist, which the libraries report without its name.
    """
    named = {n: os.environ[n] for n in _CERTIFICATES if os.environ.get(n)}
    for variable, place in named.items():
        if not Path(place).exists():
            raise WeightsError(
                f"{variable} names certificates in {place}, which does not exist.",
                next_step=f"Correct {variable}, or unset it to use this machine's own certificates.",
                code="CERTIFICATE",
            )
    if named and "SSL_CERT_FILE" not in named and "SSL_CERT_DIR" not in os.environ:
        place = next(iter(named.values()))
        os.environ["SSL_CERT_DIR" if Path(place).is_dir() else "SSL_CERT_FILE"] = place
    if "SSL_CERT_FILE" in named and "REQUESTS_CA_BUNDLE" not in named:
        os.environ["REQUESTS_CA_BUNDLE"] = named["SSL_CERT_FILE"]
