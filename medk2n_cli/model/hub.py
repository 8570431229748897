"""Weights from the Hugging Face Hub, or a server that speaks its protocol. Only `medk2n weights pull` comes here."""

from __future__ import annotations

import errno
import gc
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medk2n_cli import __version__
from medk2n_cli.core.errors import Medk2nError, OutputError, RequestError, WeightsError
from medk2n_cli.model.archive import README
from medk2n_cli.model.card import card_file

_ASKED = re.compile(r"(?P<repo>\w[\w.-]*(/\w[\w.-]*)?)@(?P<revision>[\w.-]+(/[\w.-]+)*)", re.ASCII)
_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT}
# By name: the library's HTTP client was requests, then httpx, and is httpx2 now; all three call their failures so.
_CUT = {"ReadError", "RemoteProtocolError", "ReadTimeout", "ChunkedEncodingError", "IncompleteRead", "ConnectionResetError"}
_UNREACHED = {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError", "gaierror", "TimeoutException", "Timeout"}
_VERIFY = re.compile(r"certificate verify failed: ([^('\"]+)")  # OpenSSL's words, in whatever a library wraps around them
_CARRY = "or carry them over: medk2n weights export on a machine that is connected, medk2n weights import here."


@dataclass(frozen=True)
class HubRevision:
    """A repository at a commit, tag or branch."""

    repo: str
    revision: str

    @staticmethod
    def parse(text: str) -> HubRevision:
        """From REPO@REVISION; the revision has no default, so that nobody gets other weights tomorrow without saying so.

        Raises:
            RequestError: NO_REVISION, or not of that form.
        """
        if found := _ASKED.fullmatch(text):
            return HubRevision(found["repo"], found["revision"])
        raise RequestError(
            f"'{text}' does not say which weights at which revision.",
            next_step="Write OWNER/NAME@REVISION, the revision being a commit, a tag or a branch, e.g. someone/weights@main.",
            code="NO_REVISION",
        )

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Snapshot:
    """What was downloaded.

    Attributes:
        file: the ONNX file in the library's cache, its card beside it; not verified yet.
        commit: 40 digits, what the revision stood for.
    """

    file: Path
    commit: str


def download(asked: HubRevision, cache: Path | None = None, endpoint: str | None = None, progress: bool = False) -> Snapshot:
    """The pair and README at a revision, through the cache of huggingface_hub: what is there is not downloaded again.

    Where the server cannot be reached, the last snapshot that the cache holds of this revision is the answer.

    Args:
        cache: its folder; None is that of huggingface_hub (HF_HUB_CACHE, HF_HOME).
        endpoint: of the server; None is that of huggingface_hub (HF_ENDPOINT).
        progress: draw bars on stderr.

    Raises:
        WeightsError: no such repository or revision, no connection, a certificate that is not trusted, no pair in it.
        OutputError: the cache cannot be written.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    constants.HF_HUB_DISABLE_TELEMETRY = True
    # Xet is a second way to the same bytes, with a client of its own that knows no site certificates.
    constants.HF_HUB_DISABLE_XET = True
    if not progress and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    try:
        folder = snapshot_download(
            asked.repo,
            revision=asked.revision,
            allow_patterns=["*.onnx", "*.json", README],
            ignore_patterns=["*/*"],
            cache_dir=cache,
            endpoint=endpoint,
            library_name="medk2n",
            library_version=__version__,
        )
    except Exception as failure:  # its types depend on the library's version; all are explained
        raise _explained(failure, asked, endpoint or constants.ENDPOINT, cache or Path(constants.HF_HUB_CACHE)) from failure
    if progress:
        gc.collect()  # the library leaves its bars in a reference cycle; they would draw themselves over what is printed next
    return Snapshot(_only_pair(Path(folder), asked), Path(folder).name)


def _only_pair(folder: Path, asked: HubRevision) -> Path:
    pairs = sorted(f for f in folder.glob("*.onnx") if card_file(f).is_file())
    if len(pairs) == 1:
        return pairs[0]
    held = ", ".join(sorted(f.name for f in folder.iterdir())) if folder.is_dir() else ""
    raise WeightsError(
        f"{asked} holds {'no' if not pairs else 'more than one'} pair NAME.onnx and NAME.json (it holds {held or 'neither'}).",
        next_step="Such a repository is made with: python -m medk2n_cli.training publish",
        code="NO_PAIR",
    )


def _explained(failure: Exception, asked: HubRevision, endpoint: str, cache: Path) -> Medk2nError:
    """The failure in the words of somebody at a hospital's desk; the first link of its chain that says enough decides."""
    chain = list(_chain(failure))
    names = {c.__name__ for f in chain for c in type(f).__mro__}
    if isinstance(failure, OSError) and failure.errno in _DISK:
        return OutputError(
            f"The download cache {cache} cannot be written: {failure.strerror}.",
            next_step="Name a folder that you may write to in HF_HUB_CACHE.",
            code="CACHE_NOT_WRITABLE",
        )
    if why := next((w for f in chain if (w := _certificate(f))), ""):
        return WeightsError(
            f"The certificate of {endpoint} is not trusted: {why}.",
            next_step="Name your site's CA certificates in SSL_CERT_FILE (a PEM file; your IT department has it), " + _CARRY,
            code="CERTIFICATE",
        )
    for known, code, problem, next_step in _answers(asked, endpoint):
        if known & names:
            return WeightsError(problem, next_step=next_step, code=code)
    said = str(failure).strip().splitlines() or [type(failure).__name__]
    return WeightsError(
        f"{asked} could not be downloaded from {endpoint}: {said[0][:160]}.",
        next_step="Try again later, " + _CARRY,
        code="DOWNLOAD_FAILED",
    )


def _answers(asked: HubRevision, endpoint: str) -> Iterator[tuple[set[str], str, str, str]]:
    """(names of exceptions, code, problem, next step), the more special ones first."""
    yield (
        {"OfflineModeIsEnabled"},
        "OFFLINE",
        f"HF_HUB_OFFLINE is set, and {asked} is not in the cache.",
        "Unset HF_HUB_OFFLINE, " + _CARRY,
    )
    access = f"Ask for access on {endpoint}/{asked.repo}, then log in (hf auth login) or set HF_TOKEN."
    yield {"GatedRepoError"}, "NO_ACCESS", f"{asked.repo} is only given to those who asked for it.", access
    spelling = "Check how it is written; for a private one log in (hf auth login) or set HF_TOKEN."
    yield {"RepositoryNotFoundError"}, "REPO_NOT_FOUND", f"There is no repository {asked.repo} at {endpoint}.", spelling
    exists = f"The repository is there; see its revisions on {endpoint}/{asked.repo}/commits/main"
    yield {"RevisionNotFoundError"}, "REVISION_NOT_FOUND", f"{asked.repo} has no revision {asked.revision}.", exists
    again = "Run the same command again: what is complete is kept; " + _CARRY
    yield _CUT, "DOWNLOAD_CUT", f"The connection to {endpoint} was cut during the download; nothing was installed.", again
    proxy = "Check the network; behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT; " + _CARRY
    yield _UNREACHED, "NO_CONNECTION", f"{endpoint} cannot be reached, and {asked} is not in the cache.", proxy


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        yield failure
        failure = failure.__cause__ or failure.__context__


def _certificate(failure: BaseException) -> str:
    """Why a certificate is not trusted; empty where the failure is another."""
    text = str(failure)
    if found := _VERIFY.search(text):
        return found[1].strip()
    return text.splitlines()[0][:120] if isinstance(failure, ssl.SSLError) and "CERTIFICATE" in text.upper() else ""
