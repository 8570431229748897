from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading import archive
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.scan import scan
from tests import dicoms, phantom


def test_a_zip_is_read_like_its_folder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "study", (Modality.T1, Modality.T2), phantom.axial((6, 6, 20)))
    packed = Path(shutil.make_archive(str(tmp_path / "export"), "zip", study))
    with unpacked([packed]) as (folder,):
        assert [s.label for s in scan([folder]).series] == [s.label for s in scan([study]).series]
        assert folder.stat().st_mode & 0o077 == 0, "a patient lies in it: nobody else may look"
    assert not folder.exists()


def test_folders_and_plain_files_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "plain.nii.gz").write_bytes(b"x")
    with unpacked([tmp_path, tmp_path / "plain.nii.gz", tmp_path / "nowhere"]) as places:
        assert places == (tmp_path, tmp_path / "plain.nii.gz", tmp_path / "nowhere")


def test_a_member_cannot_leave_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr("../../outside.txt", "x")
    with unpacked([tmp_path / "evil.zip"]) as (folder,):
        assert [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()] == ["outside.txt"]


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", b"a" * 10000)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[40:60] = b"\xff" * 20
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(StudyError) as failure, unpacked([tmp_path / "a.zip"]):
        pass
    assert failure.value.code == "BAD_ZIP"


def test_a_zip_larger_than_the_disk_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", b"a" * 10000)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 100))
    with pytest.raises(StudyError) as failure, unpacked([tmp_path / "a.zip"]):
        pass
    assert failure.value.code == "ZIP_TOO_LARGE"
