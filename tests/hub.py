"""A server on loopback that answers what huggingface_hub asks of the Hub: revisions, trees, files by range."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"


@dataclass
class Hub:
    """One repository.

    Attributes:
        files: content by name.
        cuts: how many answers to a GET of a file over 10 kB stop in the middle.
        rude: a cut is a reset, not an end of the stream that a client may take up again.
        asked: every request as (method, path), the Range header after it where there was one.
        hosts: every Host header.
        agents: every User-Agent header.
    """

    files: dict[str, bytes]
    cuts: int = 0
    rude: bool = False
    port: int = 0
    scheme: str = "http"
    asked: list[tuple[str, ...]] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    @property
    def ranges(self) -> list[str]:
        return [a[2] for a in self.asked if len(a) > 2]


@contextmanager
def serving(hub: Hub, certificate: Path | None = None) -> Iterator[Hub]:
    """The hub on a free port of loopback until the block ends; with a certificate (key and certificate in one file) as https."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that refuses the certificate hangs up
        hub.scheme = "https"
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def self_signed(file: Path) -> Path:
    """Key and certificate of localhost in one file, signed by nobody else."""
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    key, certificate = file.with_suffix(".key"), file.with_suffix(".crt")
    subprocess.run([*words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    file.write_bytes(key.read_bytes() + certificate.read_bytes())
    return file


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            path = urlsplit(self.path).path  # a proxy is asked with the whole address
            span = self.headers.get("Range")
            hub.asked.append((self.command, path, span) if span else (self.command, path))
            hub.hosts.add(self.headers["Host"])
            hub.agents.add(self.headers.get("User-Agent", ""))
            repo, what, revision, name = _parsed(path)
            if repo != REPO:
                self._refuse("RepoNotFound", "Repository not found")
            elif revision not in ("main", "v1", COMMIT):
                self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
            elif what == "revision":
                siblings = [{"rfilename": n} for n in hub.files]
                self._json({"id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
            elif what == "tree":
                self._json([{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in hub.files.items()])
            elif name not in hub.files:
                self._refuse("EntryNotFound", "Entry not found")
            else:
                self._file(hub.files[name])

        def _file(self, content: bytes) -> None:
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(span.group(1)) if span else 0
            self.send_response(206 if span else 200)
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", f'"{_oid(content)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self._send(content[start:])

        def _json(self, answer: object) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self._send(json.dumps(answer).encode())

        def _refuse(self, code: str, message: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", message)
            self._send(b"")

        def _send(self, body: bytes) -> None:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if len(body) > 10_000 and hub.cuts > 0:
                hub.cuts -= 1
                self._cut(body)
            else:
                self.wfile.write(body)

        def _cut(self, body: bytes) -> None:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if hub.rude:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True

    return Handler


def _parsed(path: str) -> tuple[str, str, str, str]:
    """Repository, what of it (revision, tree or resolve), revision, name of the file."""
    api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
    if api:
        return api.group(1), api.group(2), api.group(3), ""
    file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
    return (file.group(1), "resolve", file.group(2), file.group(3)) if file else ("", "", "", "")


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
