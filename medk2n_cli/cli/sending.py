"""`medk2n send`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from medk2n_cli.cli.tables import console, table
from medk2n_cli.cli.verifying import verify_result
from medk2n_cli.core.errors import OutputError
from medk2n_cli.sending.send import parse_peer, send


def send_result(folder: Path, to: str, calling: str, quiet: bool) -> dict[str, Any]:
    """A result that is what was written goes to a PACS; a refusal is an error, after every object was tried.

    Raises:
        RequestError: the peer is not understood.
        OutputError: nothing to send, no PACS there, or some objects refused.
    """
    peer = parse_peer(to)
    verify_result(folder, quiet)
    files = sorted((folder / "dicom").rglob("*.dcm"))
    if not files:
        raise OutputError(
            f"{folder} holds no DICOM.", next_step="Make it with medk2n synthesize --format dicom.", code="NOTHING_TO_SEND"
        )
    sent = send(files, peer, calling)
    refused = [s for s in sent if not s.stored]
    if refused:
        if not quiet:
            rows = [(s.file, s.word, f"0x{s.status:04X}" if s.status >= 0 else "no answer") for s in refused]
            console(stderr=True).print(table("", ("object", "answer", "status"), rows))
        raise OutputError(
            f"{peer} refused {len(refused)} of {len(sent)} objects.",
            next_step="See the PACS's log for its reason; sending again is harmless, the objects keep their UIDs.",
            code="SEND_REFUSED",
        )
    objects = [{"file": s.file, "uid": s.uid, "status": s.status, "answer": s.word} for s in sent]
    return {"to": str(peer), "sent": len(sent), "objects": objects}


def show_sent(data: dict[str, Any]) -> None:
    """How many of each answer."""
    for word, count in Counter(o["answer"] for o in data["objects"]).items():
        console().print(f"{data['to']}: {count} of {data['sent']} objects {word}", markup=False)
