"""Against a storage provider in this process, made of pynetdicom: what is sent, what is refused, and what is said then."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from medk2n_cli.core.errors import OutputError, RequestError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.sending.send import Peer, parse_peer, send
from tests import dicoms, phantom
from tests.writing.derivations import derive


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    study = dicoms.write_study(tmp_path_factory.mktemp("s"), (Modality.T1,), phantom.axial((6, 6, 20)))
    volume = load(scan([study]).chosen())[Modality.T1]
    return derive(study, tmp_path_factory.mktemp("o"), Modality.FLAIR, volume)


class Archive:
    """Stores by UID; answers `status` to every object after the first `good`."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.status, self.good = 0x0000, 1000

    def store(self, event: Event) -> int:
        if len(self.held) >= self.good:
            return self.status
        self.held[event.dataset.SOPInstanceUID] = event.dataset.PixelData if "PixelData" in event.dataset else b""
        return 0x0000


@pytest.fixture
def archive() -> Iterator[tuple[Archive, Peer]]:
    held = Archive()
    entity = AE(ae_title="ARCHIVE")
    entity.require_called_aet = True
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax)
    entity.maximum_associations = 5
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, held.store)])
    assert server is not None
    yield held, Peer("ARCHIVE", "127.0.0.1", server.server_address[1])
    server.shutdown()


def test_every_object_arrives_and_sending_again_is_harmless(files: list[Path], archive: tuple[Archive, Peer]) -> None:
    held, peer = archive
    for _ in range(2):
        sent = send(files, peer)
        assert {s.word for s in sent} == {"stored"}
        assert [s.file for s in sent] == [f.name for f in files]
    assert set(held.held) == {pydicom.dcmread(f).SOPInstanceUID for f in files}
    assert sum(bool(p) for p in held.held.values()) == len(files) - 1


def test_a_refusal_is_told_object_by_object(files: list[Path], archive: tuple[Archive, Peer]) -> None:
    held, peer = archive
    held.good, held.status = 2, 0xA700  # out of resources
    sent = send(files, peer)
    assert [s.stored for s in sent] == [True, True] + [False] * (len(files) - 2)
    assert {s.status for s in sent[2:]} == {0xA700}


def test_a_coercion_counts_as_stored(files: list[Path], archive: tuple[Archive, Peer]) -> None:
    held, peer = archive
    held.good, held.status = 0, 0xB000
    assert {(s.word, s.stored) for s in send(files, peer)} == {("stored with a warning", True)}


def test_what_is_not_marked_synthetic_is_never_sent(files: list[Path], archive: tuple[Archive, Peer], tmp_path: Path) -> None:
    held, peer = archive
    one = pydicom.dcmread(files[0])
    del one.SyntheticData
    one.save_as(tmp_path / "unmarked.dcm")
    with pytest.raises(OutputError) as failure:
        send([*files, tmp_path / "unmarked.dcm"], peer)
    assert failure.value.code == "NOT_MARKED"
    assert held.held == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the provider's socket of a rejected peer
def test_a_wrong_title_and_a_silent_port_are_told_apart(files: list[Path], archive: tuple[Archive, Peer]) -> None:
    _, peer = archive
    with pytest.raises(OutputError) as failure:
        send(files, Peer("SOMEBODY", peer.host, peer.port))
    assert failure.value.code == "PACS_REJECTED"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    with pytest.raises(OutputError) as failure:
        send(files, Peer("ARCHIVE", "127.0.0.1", free))
    assert failure.value.code == "PACS_UNREACHABLE"


def test_a_peer_is_read_from_its_usual_spelling() -> None:
    assert parse_peer("ORTHANC@pacs.example:104") == Peer("ORTHANC", "pacs.example", 104)
    assert parse_peer("A B@[::1]:11112") == Peer("A B", "::1", 11112)
    for wrong in ("PÄCS@h:104", "pacs:104", "ORTHANC@pacs", "ORTHANC@pacs:0", "SEVENTEENLETTERSX@h:1", "A@h:99999"):
        with pytest.raises(RequestError):
            parse_peer(wrong)


@pytest.mark.parametrize("title", ["", "MEDK2N_RESEARCH_01", "Ä", "A\\B"])
def test_a_title_of_our_own_that_is_none_is_refused_before_anything_is_sent(title: str, files: list[Path]) -> None:
    with pytest.raises(RequestError):
        send(files, Peer("ARCHIVE", "127.0.0.1", 9), title)
