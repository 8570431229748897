from __future__ import annotations

import builtins
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.finding import images
from medk2n_cli.reading.scan import scan
from medk2n_cli.reading.studies import find_studies
from tests import dicoms, phantom

T1, T1C, T2, FLAIR, DWI, ADC = Modality
COARSE = phantom.axial((8.0, 8.0, 12.0))


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """The system refuses a file or folder from now on: tests may run as root, to whom nothing is closed."""
    refused: dict[str, int] = {}

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *rest: object, **more: object) -> object:
            if isinstance(path, str | Path) and str(path) in refused:
                number = refused[str(path)]
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *rest, **more)

        return call

    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(builtins, "open", guarded(open))
    monkeypatch.setattr(Path, "open", guarded(Path.open))

    def refuse(path: Path, number: int = errno.EACCES) -> None:
        refused[str(path)] = number

    return refuse


def closed(folder: Path) -> list[tuple[str, str]]:
    return [(s.label, str(s.unused)) for s in scan([folder]).series if s.code.startswith("CLOSED")]


def test_a_closed_folder_is_told_and_the_rest_is_read(tmp_path: Path, close: Callable[..., None]) -> None:
    folder = phantom.write_study(tmp_path / "s", (T1, T2))
    phantom.write_study(folder / "more", (FLAIR,))
    close(folder / "more")
    assert list(scan([folder]).chosen()) == [T1, T2]
    assert closed(folder) == [("more/", "the system does not let us read it (Permission denied)")]
    assert [s.shown for s in scan([folder]).series if s.unused] == ["a folder"]  # its name may be a patient's


@pytest.mark.parametrize("number, why", [(errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")])
def test_a_contrast_that_cannot_be_read_is_no_missing_contrast(
    number: int, why: str, tmp_path: Path, close: Callable[..., None]
) -> None:
    folder = phantom.write_study(tmp_path / "nifti", (T1, FLAIR))
    close(folder / "FLAIR.nii.gz", number)
    heap = dicoms.write_study(tmp_path / "dicom", (T1,), COARSE)
    first = sorted(heap.iterdir())[0]
    close(first, number)
    for place, name in ((folder, "FLAIR.nii.gz"), (heap, first.name)):
        assert closed(place) == [(name, f"the system does not let us read it ({why})")]
        with pytest.raises(StudyError, match="may be a contrast that seems to be missing"):
            scan([place]).require_open()
    assert closed(first)[0][0] == first.name  # as a batch names it


def test_what_is_open_passes(tmp_path: Path) -> None:
    scan([phantom.write_study(tmp_path / "s", (T1,))]).require_open()


def test_a_closed_file_belongs_to_the_studies_beside_it(tmp_path: Path, close: Callable[..., None]) -> None:
    dicoms.write_study(tmp_path / "e" / "one", (T1,), COARSE, "1.2.3.1")
    dicoms.write_study(tmp_path / "e" / "two", (T1,), COARSE, "1.2.3.2")
    hidden = tmp_path / "e" / "two" / "IM_FLAIR"
    hidden.write_bytes(b"x")
    close(hidden)
    assert {s.name: hidden in s.where for s in find_studies(tmp_path / "e")} == {"1.2.3.1": False, "1.2.3.2": True}


def test_a_closed_series_folder_belongs_to_the_one_study_around_it(tmp_path: Path, close: Callable[..., None]) -> None:
    for name, uid in (("A", "1.2.3.1"), ("B", "1.2.3.2")):
        dicoms.write_study(tmp_path / "e" / name / "t1", (T1,), COARSE, uid)
    shut = tmp_path / "e" / "B" / "flair"
    shut.mkdir()
    close(shut)
    assert {s.name: shut in s.where for s in find_studies(tmp_path / "e")} == {"1.2.3.1": False, "1.2.3.2": True}


def test_closed_folders_of_an_export_are_studies_that_fail_each_by_a_name_of_its_own(
    tmp_path: Path, close: Callable[..., None]
) -> None:
    phantom.write_study(tmp_path / "one", (T1,))
    for name in ("DOE_JOHN", "ROE_JANE"):
        (tmp_path / name).mkdir()
        close(tmp_path / name)
    found = {s.name: s for s in find_studies(tmp_path)}
    assert set(found) == {"one", "DOE_JOHN", "ROE_JANE"}
    assert len({s.nameless().name for s in found.values()}) == 3
    with pytest.raises(StudyError, match="does not let us read it") as error:
        scan(found["DOE_JOHN"].where, shown=Path("study_1")).chosen()
    assert "DOE" not in str(error.value)


def test_what_vanishes_or_belongs_to_the_system_is_passed_over(tmp_path: Path, close: Callable[..., None]) -> None:
    folder = phantom.write_study(tmp_path / "s", (T1,))
    for name, number in (("gone", errno.ENOENT), ("lost+found", errno.EACCES)):
        (folder / name).mkdir()
        close(folder / name, number)
    (folder / ".lock").write_text("")
    close(folder / ".lock")
    (folder / "loop").symlink_to(folder / "loop")
    assert [f.label for f in images([folder])] == ["T1.nii.gz"]


def zipped(folder: Path, file: Path) -> Path:
    return Path(shutil.make_archive(str(file), "zip", folder))


def test_a_zip_beside_a_study_may_hold_what_seems_to_be_missing(tmp_path: Path) -> None:
    phantom.write_study(tmp_path / "s", (T1,), COARSE)
    zipped(phantom.write_study(tmp_path / "rest", (T2,), COARSE), tmp_path / "s" / "rest")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("nothing to see")
    zipped(tmp_path / "text", tmp_path / "s" / "notes")
    study = scan([tmp_path / "s"])
    assert [s.label for s in study.series if s.unused] == ["rest.zip"], "a zip of something else is no concern of ours"
    assert list(study.chosen()) == [T1]
    with pytest.raises(StudyError) as failure:
        study.require_open()
    assert failure.value.code == "ZIPPED"
    assert "Unpack" in failure.value.next_step


def test_zips_of_an_export_are_studies(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    for uid in ("1.2.3.1", "1.2.3.2"):
        zipped(dicoms.write_study(tmp_path / uid, (T1, T2), COARSE, uid), tmp_path / "e" / f"p{uid[-1]}")
    found = find_studies(tmp_path / "e")
    assert [(s.name, [f.name for f in s.where]) for s in found] == [("p1", ["p1.zip"]), ("p2", ["p2.zip"])]
