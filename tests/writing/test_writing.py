from __future__ import annotations

import gzip
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume
from medk2n_cli.writing import nifti
from medk2n_cli.writing.folder import MANIFEST, RESULT_SCHEMA, OutputFolder, open_folder
from medk2n_cli.writing.nifti import write_volume
from tests import phantom


def volume() -> Volume:
    grid = phantom.around(np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]), (3.0, 4.0, 5.0))
    return Volume(phantom.volume(Modality.FLAIR, grid), grid)


def test_a_written_volume_reads_back_in_its_place_and_says_what_it_is(tmp_path: Path) -> None:
    made = volume()
    file = write_volume(tmp_path, Modality.FLAIR, made)
    image = sitk.ReadImage(str(file))
    assert np.array_equal(sitk.GetArrayFromImage(image).T, np.rint(made.array).astype(np.int16))
    assert np.allclose(image.GetOrigin(), made.grid.origin, atol=1e-3)
    assert np.allclose(image.GetSpacing(), made.grid.spacing, atol=1e-4)
    assert file.name.startswith("synth_")
    assert gzip.decompress(file.read_bytes())[148:228].startswith(b"SYNTHETIC by medk2n, not for diagnosis: FLAIR")


def test_a_volume_that_reads_back_differently_does_not_count_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = sitk.WriteImage

    def torn(image: sitk.Image, name: str, **options: object) -> None:
        spoiled = sitk.Image(image)
        spoiled[0, 0, 0] = 77
        write(spoiled, name, **options)

    monkeypatch.setattr(nifti.sitk, "WriteImage", torn)
    with pytest.raises(OutputError, match="reads back differently"):
        write_volume(tmp_path, Modality.FLAIR, volume())


def test_nothing_appears_before_commit_and_the_manifest_is_last(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_folder(out, overwrite=False) as folder:
        (folder.staging / "a.txt").write_text("a")
        (folder.staging / MANIFEST).write_text(json.dumps({"outputs": [{"file": "a.txt"}]}))
        assert [f.name for f in out.iterdir() if not f.name.startswith(".")] == []
        folder.commit()
    assert sorted(f.name for f in out.iterdir()) == ["a.txt", MANIFEST]


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(IsADirectoryError), open_folder(out, overwrite=False) as folder:
        folder.staging.write_text("a")
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputError) as failure, open_folder(tmp_path, overwrite=False):
        pass
    assert failure.value.code == "OUT_NOT_EMPTY"
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_overwrite_replaces_an_earlier_result_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": RESULT_SCHEMA, "outputs": [{"file": "old.txt"}]}))
    with open_folder(tmp_path, overwrite=True) as folder:
        (folder.staging / "new.txt").write_text("new")
        (folder.staging / MANIFEST).write_text("{}")
        folder.commit()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["new.txt", "precious.txt", MANIFEST]


@pytest.mark.parametrize("name", ["report.json", MANIFEST])
def test_overwrite_never_replaces_a_file_that_is_somebody_elses(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(OutputError) as failure, open_folder(tmp_path, overwrite=True) as folder:
        _fill_and_commit(folder)
    assert failure.value.code == "FOREIGN_FILES"
    assert [f.name for f in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": true}'


def _fill_and_commit(folder: OutputFolder) -> None:
    (folder.staging / "report.json").write_text("{}")
    (folder.staging / MANIFEST).write_text("{}")
    folder.commit()


def test_a_manifest_that_names_files_elsewhere_deletes_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_text(json.dumps({"schema": RESULT_SCHEMA, "outputs": [{"file": "../outside.txt"}]}))
    with open_folder(out, overwrite=True) as folder:
        (folder.staging / MANIFEST).write_text("{}")
        folder.commit()
    assert (tmp_path / "outside.txt").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("x")
    with pytest.raises(OutputError) as failure, open_folder(file, overwrite=True):
        pass
    assert failure.value.code == "OUT_IS_FILE"


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Cannot write"), open_folder(tmp_path / "out", overwrite=False):
        pass


def test_a_disk_that_cannot_be_written_is_said_in_one_line() -> None:
    full = Path("/proc/medk2n-out")
    if not full.parent.is_dir():
        pytest.skip("no /proc here")
    with pytest.raises(OutputError, match="Cannot write") as failure, open_folder(full, overwrite=False):
        pass
    assert "--out" in failure.value.next_step


def committed(out: Path, files: dict[str, str], overwrite: bool = False) -> None:
    with open_folder(out, overwrite) as folder:
        for name, content in files.items():
            (folder.staging / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.staging / name).write_text(content)
        listed = [{"file": name} for name in files]
        (folder.staging / MANIFEST).write_text(json.dumps({"schema": RESULT_SCHEMA, "outputs": listed}))
        folder.commit()


def contents(out: Path) -> dict[str, str]:
    return {f.relative_to(out).as_posix(): f.read_text() for f in out.rglob("*") if f.is_file() and f.name != MANIFEST}


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_a_commit_that_fails_anywhere_puts_the_earlier_result_back(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = tmp_path / "o", {"a": "old a", "dicom/b": "old b"}
    committed(out, before)
    replace, calls = os.replace, []

    def failing(*words: object) -> None:
        calls.append(words)
        if len(calls) == fails_at:
            raise OSError(5, "Input/output error")
        replace(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match="Input/output"):
        committed(out, {"a": "new a", "dicom/c": "new c"}, overwrite=True)
    monkeypatch.undo()
    assert contents(out) == before
    assert (out / MANIFEST).exists()
    committed(out, {"a": "new a", "dicom/c": "new c"}, overwrite=True)
    assert contents(out) == {"a": "new a", "dicom/c": "new c"}


def test_a_commit_that_was_killed_does_not_block_the_next_one(tmp_path: Path) -> None:
    out = tmp_path / "o"
    out.mkdir()
    (out / "a").write_text("half a result")
    (out / ".medk2n-part-journal.json").write_text(json.dumps({"staging": "gone", "ours": ["a"], "new": ["a", "b", MANIFEST]}))
    committed(out, {"a": "whole", "b": "whole"})
    assert contents(out) == {"a": "whole", "b": "whole"}


@pytest.mark.skipif(os.name == "nt", reason="no fork, no signal 0")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads: the child only moves files
@pytest.mark.parametrize("killed_at", range(1, 8))
def test_the_run_after_one_that_was_killed_while_it_exchanged_files_finds_the_earlier_result(killed_at: int, tmp_path: Path) -> None:
    out, before, after = tmp_path / "o", {"a": "old a", "dicom/b": "old b"}, {"a": "new a", "dicom/c": "new c"}
    committed(out, before)
    pid = os.fork()
    if not pid:
        replace, calls = os.replace, []

        def die(*_: object, **__: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def deadly(*words: object) -> None:
            calls.append(words)
            if len(calls) == killed_at:
                die()
            replace(*words)  # type: ignore[arg-type]

        os.replace = deadly  # type: ignore[assignment]
        Path.unlink = die  # type: ignore[assignment]  # the journal's end
        committed(out, after, overwrite=True)
    os.waitpid(pid, 0)
    with suppress(ZeroDivisionError), open_folder(out, overwrite=True):
        1 / 0  # the next run fails for another reason
    assert contents(out) == (before if killed_at <= 6 else after)
    assert (out / MANIFEST).exists()
    assert not list(out.glob(".medk2n*"))


def test_of_two_runs_into_one_folder_the_second_to_finish_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "o"
    with open_folder(out, overwrite=False) as first:
        (first.staging / "a").write_text("first")
        committed(out, {"a": "second"})
        with pytest.raises(OutputError) as failure:
            first.commit()
    assert failure.value.code == "OUT_NOT_EMPTY"
    assert contents(out) == {"a": "second"}


@pytest.mark.skipif(os.name == "nt", reason="no signal 0")
def test_what_a_killed_run_staged_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    import socket
    import subprocess
    import sys

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = (tmp_path / f".medk2n-part-{socket.gethostname()}-{pid}-abc" for pid in (gone.pid, os.getpid()))
    for place in (dead, alive):
        place.mkdir()
        (place / "patient.dcm").write_text("x")
    with open_folder(tmp_path, overwrite=False):
        assert not dead.exists()
        assert alive.exists()


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5, 7])
def test_a_stop_in_the_middle_of_putting_a_result_in_place_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    from medk2n_cli.writing import folder as folders
    from medk2n_cli.writing.result import commit_with_manifest

    def fill(text: str) -> None:
        with folders.open_folder(tmp_path / "r", overwrite=True) as opened:
            for name in ("a", "b", "c"):
                (opened.staging / name).write_text(text)
            commit_with_manifest(opened, {"status": "done"})

    fill("earlier")
    before = {f.name: f.read_bytes() for f in (tmp_path / "r").iterdir()}
    whole, moved = folders._move, 0

    def move(file: Path, to: Path) -> None:
        nonlocal moved
        moved += 1
        if moved == stop_at + 1:
            raise KeyboardInterrupt
        whole(file, to)

    monkeypatch.setattr(folders, "_move", move)
    with pytest.raises(KeyboardInterrupt):
        fill("later")
    assert {f.name: f.read_bytes() for f in (tmp_path / "r").iterdir()} == before
    monkeypatch.setattr(folders, "_move", whole)
    fill("later")
    assert (tmp_path / "r" / "a").read_text() == "later"
