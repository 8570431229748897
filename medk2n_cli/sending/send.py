"""DICOM objects of a result -> a PACS, by C-STORE (PS3.4 annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from medk2n_cli.core.errors import OutputError, RequestError

_SECONDS = 30


@dataclass(frozen=True)
class Peer:
    """A storage provider: its application entity title, host and port."""

    aet: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.aet}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Sent:
    """What a PACS answered about one object.

    Attributes:
        status: of the C-STORE response (PS3.7 annex C), or -1 where none came.
        word: stored, "stored with a warning", or refused.
    """

    file: str
    uid: str
    status: int
    word: str

    @property
    def stored(self) -> bool:
        """Whether the PACS has it now."""
        return self.word != "refused"


def check_title(title: str) -> str:
    """An application entity title: 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2, AE).

    Raises:
        RequestError: BAD_PEER.
    """
    if not (len(title.strip()) > 0 and len(title) <= 16 and title.isascii() and title.isprintable() and "\\" not in title):
        raise RequestError(
            f"'{title}' is no AE title.", next_step="Use 1 to 16 plain characters, e.g. --from MEDK2N.", code="BAD_PEER"
        )
    return title.strip()


def parse_peer(text: str) -> Peer:
    """``AET@host:port`` -> Peer.

    Raises:
        RequestError: BAD_PEER.
    """
    found = re.fullmatch(r"([^@\\]{1,16})@(\[[0-9a-fA-F:]+\]|[^@:\s]+):(\d{1,5})", text.strip())
    if found is None or not 0 < int(found.group(3)) < 65536:
        raise RequestError(
            f"'{text}' is no DICOM peer.", next_step="Write --to AET@host:port, e.g. ORTHANC@pacs:104.", code="BAD_PEER"
        )
    return Peer(check_title(found.group(1)), found.group(2).strip("[]"), int(found.group(3)))


def send(files: Sequence[Path], peer: Peer, calling: str = "MEDK2N") -> list[Sent]:
    """Every object in one association; an object that says nothing of being synthetic is never sent.

    Raises:
        OutputError: NOT_MARKED, PACS_UNREACHABLE or PACS_REJECTED.
    """
    objects = [(file, pydicom.dcmread(file)) for file in files]
    for file, one in objects:
        if one.get("SyntheticData") != "YES":
            raise OutputError(
                f"{file.name} is not marked synthetic; nothing was sent.",
                next_step="Send only results of medk2n.",
                code="NOT_MARKED",
            )
    association = _associate(peer, check_title(calling), {one.SOPClassUID for _, one in objects})
    try:
        return list(_store(association, objects))
    finally:
        if association.is_established:
            association.release()


def _associate(peer: Peer, calling: str, classes: set[str]) -> Association:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _SECONDS
    for sop_class in sorted(classes):
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(peer.host, peer.port, ae_title=peer.aet)
    if association.is_established:
        return association
    if association.is_rejected:
        raise OutputError(
            f"{peer} answers, but refuses an association with {calling}.",
            next_step="Check the AE title after --to, and that the PACS knows the one given with --from.",
            code="PACS_REJECTED",
        )
    raise OutputError(
        f"No DICOM service answers at {peer}.", next_step="Check host and port after --to.", code="PACS_UNREACHABLE"
    )


def _store(association: Association, objects: Sequence[tuple[Path, Dataset]]) -> Iterator[Sent]:
    for file, one in objects:
        status = -1
        if association.is_established:
            try:
                status = int(association.send_c_store(one).get("Status", -1))
            except (ValueError, RuntimeError):  # the peer accepts no such object, or is gone
                status = -1
        yield Sent(file.name, str(one.SOPInstanceUID), status, _word(status))


def _word(status: int) -> str:
    if status == 0:
        return "stored"
    return "stored with a warning" if 0xB000 <= status <= 0xBFFF or status in (1, 0x107, 0x116) else "refused"
