"""What fuzzing found, one by one, and folders that no export should be: every answer is coded, quick and small."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series
from medk2n_cli.reading import nifti
from medk2n_cli.reading.archive import unpacked
from medk2n_cli.reading.scan import load, scan
from medk2n_cli.reading.studies import find_studies
from tests import dicoms, phantom
from tests.cli.test_commands import failed, medk2n
from tests.conftest import TINY
from tests.reading.fuzz_dicom import Element, File, make_seeds
from tests.reading.test_nifti import patched

T1, T1C, T2, FLAIR, DWI, ADC = Modality
GRID = phantom.axial((20, 24, 30))
NAME = "Quagmire^Zebulon"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[File]]:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def having(file: File, *elements: Element) -> File:
    """The file with these elements instead of its own."""
    tags = {e.tag for e in elements}
    kept = [e for e in file.elements if e.tag not in tags]
    return replace(file, elements=tuple(sorted([*kept, *elements], key=lambda e: e.tag)))


def stored(folder: Path, files: list[File]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, file in enumerate(files):
        (folder / f"IM{number}").write_bytes(file.encoded())
    return folder


def answer(folder: Path) -> str:
    """The code of the folder's only series, scanned and loaded; empty where it is fine."""
    (series,) = scan([folder]).series
    if series.grid is None:
        return series.code
    code, problem = loaded(series)
    assert NAME.partition("^")[0] not in problem
    return code


def loaded(series: Series) -> tuple[str, str]:
    try:
        load({T1: series})
    except StudyError as failure:
        return failure.code, failure.problem
    return "", ""


def us(tag: int, *values: int) -> Element:
    return Element(tag, b"US", struct.pack(f"<{len(values)}H", *values))


ROWS, COLUMNS, BITS, SERIES, STUDY, DESCRIPTION = 0x00280010, 0x00280011, 0x00280100, 0x00200011, 0x0020000D, 0x0008103E
BAD_HEADERS: dict[str, tuple[tuple[Element, ...], str]] = {
    "no rows": ((us(ROWS, 0),), "MISSING_PIXELS"),
    "several rows": ((us(ROWS, 5, 5),), "TRUNCATED"),
    "rows in words": ((Element(ROWS, b"LO", b"many"),), "MISSING_PIXELS"),
    "endless columns": ((Element(COLUMNS, b"FD", struct.pack("<d", 1e300)),), "MISSING_PIXELS"),
    "rows of an unknown kind": ((Element(ROWS, b"ZZ", b"ab"),), "MISSING_PIXELS"),
    "half a number": ((Element(ROWS, b"UL", b"\1"),), "MISSING_PIXELS"),
    "17 billion voxels": ((us(ROWS, 65535), us(COLUMNS, 65535)), "TOO_LARGE"),
    "48 million voxels in 3 kB": ((us(ROWS, 4000), us(COLUMNS, 4000), Element(0x00280030, b"DS", b".1\\.1")), "TRUNCATED"),
    "a pixel of 4096 bits": ((us(BITS, 4096),), "TRUNCATED"),
    "flat voxels": ((Element(0x00280030, b"DS", b"1e-9\\1e-9"),), "BAD_SPACING"),
    "a head of 100 km": ((Element(0x00280030, b"DS", b"9999\\9999"),), "BAD_SPACING"),
    "a position beyond numbers": ((Element(0x00200032, b"DS", b"1e308\\1e308\\1e308"),), "NO_POSITION"),
    "a slope in words": ((Element(0x00281053, b"LO", b"steep"),), "BAD_RESCALE"),
    "an endless slope": ((Element(0x00281053, b"DS", b"inf "),), "BAD_RESCALE"),
    "a slope beyond float32": ((Element(0x00281053, b"DS", b"1e300 "),), "NAN_VOXELS"),
    "a number that is none": ((Element(SERIES, b"IS", "²".encode()),), ""),
    "a number of 5000 digits": ((Element(SERIES, b"LO", b"9" * 5000),), ""),
    "a sequence of words": ((Element(0x52009229, b"SQ", b"a sequence"),), ""),
    "a UID that is a sequence": ((Element(STUDY, b"SQ", b""),), ""),
    "an unknown character set": ((Element(0x00080005, b"CS", b"zlib"),), ""),
    "pixels of 4 GB": ((Element(0x7FE00010, b"OW", b"\1\2", 0xFFFFFFFE),), "TRUNCATED"),
    "a text of 4 GB": ((Element(0x00080060, b"UT", b"MR", 0xFFFFFFF0),), "NOT_AN_IMAGE"),
}


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_a_lying_header_gets_a_coded_answer(what: str, seeds: dict[str, list[File]], tmp_path: Path) -> None:
    elements, code = BAD_HEADERS[what]
    folder = stored(tmp_path, [having(f, *elements) for f in seeds["explicit"]])
    for series in scan([folder]).series:
        assert series.label.isprintable()
        assert len(series.label) <= 120
    if code == "NOT_AN_IMAGE":
        assert {s.code for s in scan([folder]).series} == {code}
    else:
        assert answer(folder) == code


@pytest.mark.parametrize("syntax", ["", "1.2.3", "../..", "1.2.840.10008.5.1.4.1.1.4", "1.2\\1.2"])
def test_a_transfer_syntax_that_is_none_is_refused(syntax: str, seeds: dict[str, list[File]], tmp_path: Path) -> None:
    folder = stored(tmp_path, [replace(f, said_syntax=syntax) for f in seeds["explicit"]])
    assert answer(folder) in ("UNSUPPORTED_TRANSFER_SYNTAX", "TRUNCATED", "")


def pixels_changed(file: File, change: Callable[[bytearray, int], None]) -> File:
    """`change(pixel data, where the codestream begins)`."""
    (pixels,) = (e for e in file.elements if e.tag == 0x7FE00010)
    value = bytearray(pixels.value)
    change(value, next(n for n in range(8, 64) if value[n : n + 2] in (b"\xff\xd8", b"\xff\x4f")))
    return having(file, replace(pixels, value=bytes(value)))


@pytest.mark.parametrize(
    ("kind", "at", "value"), [("JPEG", 6, 17), ("JPEG", 6, 255), ("JPEG", 7, 9), ("JPEG2000", 11, 14), ("JPEG2000", 8, 255)]
)
def test_a_codestream_that_contradicts_its_header_never_reaches_the_decoder(
    kind: str, at: int, value: int, seeds: dict[str, list[File]], tmp_path: Path
) -> None:
    """The first two wrote past the decoder's memory: a segmentation fault."""

    def lie(pixels: bytearray, start: int) -> None:
        pixels[start + at] = value

    folder = stored(tmp_path, [pixels_changed(f, lie) for f in seeds[kind]])
    code = "from tests.reading.test_hostile import answer; import pathlib, sys; print(answer(pathlib.Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "TRUNCATED"), done.stderr


def test_decoders_print_nothing(seeds: dict[str, list[File]], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def spoil(pixels: bytearray, start: int) -> None:
        pixels[start + 60 :] = b"\0" * (len(pixels) - start - 60)

    for kind in ("JPEG", "JPEG2000", "RLE"):
        files = seeds[kind] if kind == "RLE" else [pixels_changed(f, spoil) for f in seeds[kind]]
        answer(stored(tmp_path / kind, files))
    assert capfd.readouterr() == ("", "")


def test_compressed_frames_have_scales_of_their_own(seeds: dict[str, list[File]], tmp_path: Path) -> None:
    plain = load(scan([stored(tmp_path / "a", seeds["JPEG"])]).chosen())[T1].array
    scaled = [having(f, Element(0x00281053, b"DS", str(n + 2).encode())) for n, f in enumerate(seeds["JPEG"])]
    twice = load(scan([stored(tmp_path / "b", scaled)]).chosen())[T1].array
    assert np.allclose(twice, plain * [2, 3, 4])


def test_a_deflated_bomb_is_refused_and_a_deflated_enhanced_object_is_read(seeds: dict[str, list[File]], tmp_path: Path) -> None:
    bomb = having(replace(seeds["explicit"][0], syntax=DeflatedExplicitVRLittleEndian), Element(0x00091001, b"OB", b"\0" * 2**27))
    assert answer(stored(tmp_path / "bomb", [bomb])) == "NOT_AN_IMAGE"
    enhanced = [replace(f, syntax=DeflatedExplicitVRLittleEndian) for f in seeds["enhanced"]]
    assert answer(stored(tmp_path / "enhanced", enhanced)) == ""


def test_sequences_nested_3000_deep_are_refused(seeds: dict[str, list[File]], tmp_path: Path) -> None:
    inner = b""
    for _ in range(3000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
        inner = Element(0x00081140, b"SQ", item, 0xFFFFFFFF).encoded("1.2.840.10008.1.2.1")
    deep = having(seeds["explicit"][0], Element(0x00081140, b"SQ", inner[12:], 0xFFFFFFFF))
    assert answer(stored(tmp_path, [deep])) == "NOT_AN_IMAGE"


def test_a_patients_name_is_in_no_label_and_no_error_wherever_a_scanner_put_it(
    seeds: dict[str, list[File]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = Element(0x00100010, b"PN", NAME.encode())
    for tag, vr in ((DESCRIPTION, b"LO"), (SERIES, b"LO"), (0x00080008, b"CS"), (0x00080016, b"UI"), (0x00280004, b"CS")):
        value = b"T1 " + NAME.encode() if tag == DESCRIPTION else NAME.encode()
        folder = stored(tmp_path / f"{tag:x}", [having(f, name, Element(tag, vr, value)) for f in seeds["explicit"]])
        (series,) = scan([folder]).series
        for word in NAME.split("^"):
            assert word not in f"{series.label} {series.unused} {series.evidence} {series.study}"
        answer(folder)
    assert capfd.readouterr() == ("", ""), "pydicom's warnings cite values"


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "..",
    "a\nb",
    "a\0b",
    "CON",
    "batch.csv",
    "-rf",
    "$(id)",
    "1.2.3 ",
    "1" * 300,
    "ä",
    "\x1b[31m",
]


def test_hostile_tags_never_decide_a_path(seeds: dict[str, list[File]], tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE):
        study = Element(STUDY, b"UI", text.encode())
        uid = Element(0x0020000E, b"UI", f"1.2.{number}".encode())
        stored(tmp_path / "in" / str(number) if (tmp_path / "in").mkdir(exist_ok=True) is None else tmp_path, [
            having(f, study, uid, Element(0x00080018, b"UI", f"1.2.{number}.{k}".encode())) for k,
            f in enumerate(seeds["explicit"])
        ])  # fmt: skip
    found = find_studies(tmp_path / "in")
    assert len(found) == len(HOSTILE)
    for one in found:
        assert one.name.startswith("study_") or one.name == "1.2.3"
        assert one.name.replace("_", "").replace(".", "").isalnum()
    with pytest.raises(StudyError) as question:
        scan([tmp_path / "in"]).chosen()
    assert question.value.problem.isprintable(), "what is cited can be pasted into a shell"
    assert scan([tmp_path / "in"], study=found[0].uid).chosen()


def test_a_batch_of_hostile_studies_writes_inside_its_folder_alone(seeds: dict[str, list[File]], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, text in enumerate(("../../x", "batch.csv")):
        base = dicoms.header(T1, "1.2.3", 3)
        base.SeriesDescription, base.SeriesInstanceUID = "T1 ../../y", f"1.2.3.{number}"
        grid = phantom.axial((5, 5, 12))
        folder = tmp_path / "in" / str(number)
        for file in dicoms.write_series(folder, phantom.volume(T1, grid), grid, base):
            raw = file.read_bytes()
            old = Element(STUDY, b"UI", b"1.2.3\0").encoded("1.2.840.10008.1.2.1")
            value = text.encode() + b"\0" * (len(text) % 2)
            file.write_bytes(raw.replace(old, Element(STUDY, b"UI", value).encoded("1.2.840.10008.1.2.1")))
    source, out = tmp_path / "in", tmp_path / "deep" / "er" / "out"
    common = ("batch", "--in", source, "--out", out, "--want", "T2", "--weights", TINY, "--format", "nifti")
    names = [r["study"] for r in json.loads(medk2n(*common, "--dry-run", "--json").stdout)["data"]["rows"]]
    assert len(names) == 2
    assert all(n.startswith("study_") for n in names)
    done = medk2n(*common)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"in", "deep"}
    assert {p.name for p in (tmp_path / "deep").iterdir()} | {p.name for p in out.parent.iterdir()} == {"er", "out"}
    assert {p.name for p in out.iterdir() if p.is_dir()} == set(names)


def test_names_that_are_one_to_a_file_system_are_told_apart(tmp_path: Path) -> None:
    for place in ("a/b", "a_b", "A_B", "batch.x"):
        phantom.write_study(tmp_path / place, (T1,), GRID)
    names = [s.name.lower() for s in find_studies(tmp_path)]
    assert len(set(names)) == 4
    assert not any(n.startswith("batch") for n in names), "the batch's own tables"


# NIfTI


def only(file: Path) -> Series:
    return nifti.read_series(file, file.name)


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b'{"a":' * 100_000, b'{"EchoTime": ' + b"9" * 6000 + b"}", b"\xff\xfe",
    b'{"synthetic": true}' + b" " * 2**21]
)  # fmt: skip
def test_a_sidecar_that_is_none_is_no_sidecar(content: bytes, tmp_path: Path) -> None:
    file = phantom.write_study(tmp_path, (T1,), GRID) / "T1.nii.gz"
    (tmp_path / "T1.json").write_bytes(content)
    assert only(file).unused is None


@pytest.mark.parametrize(
    ("at", "layout", "values"),
    [(40, "<4h", (3, 30000, 30000, 30000)), (40, "<h", (9,)), (42, "<h", (0,)), (70, "<h", (1536,)), (108, "<f", (np.inf,)),
    (344, "4s", (b"ni1",)),
     (344, "4s", (b"",)), (280, "<f", (np.inf,)), (80, "<f", (np.nan,)), (80, "<f", (1e9,)), (256, "<f", (np.inf,)),
     (0, "<i", (540,))],
)  # fmt: skip
def test_a_damaged_nifti_header_is_refused_in_silence(
    at: int, layout: str, values: tuple[float, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = phantom.write_study(tmp_path, (T1,), GRID) / "T1.nii.gz"
    patched(patched(file, 252, "<2h", 1, 1), at, layout, *values)
    assert only(file).code in ("NOT_AN_IMAGE", "TOO_LARGE", "BAD_AFFINE", "BAD_SPACING", "TRANSFORMS_DISAGREE")
    assert capfd.readouterr() == ("", "")


def test_an_infinite_sform_keeps_nobody_waiting(tmp_path: Path) -> None:
    """ITK's singular value decomposition never came to an end."""
    file = phantom.write_study(tmp_path, (T1,), GRID) / "T1.nii.gz"
    patched(patched(patched(file, 252, "<2h", 1, 1), 324, "<f", np.inf), 312, "<f", 1.0)
    code = "import pathlib, sys; from tests.reading.test_hostile import only; print(only(pathlib.Path(sys.argv[1])).code)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "BAD_AFFINE\n", done.stderr


def test_a_header_never_sends_the_reader_to_another_file(tmp_path: Path) -> None:
    """ni1 in the magic means: the voxels are in the .img beside."""
    file = phantom.write(tmp_path / "T1.nii", phantom.volume(T1, GRID), GRID)
    raw = file.read_bytes()
    (tmp_path / "T1.img").write_bytes(raw[352:])
    file.write_bytes(raw[:344] + b"ni1\0" + raw[348:])
    assert only(file).code == "NOT_AN_IMAGE"


def test_gzip_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    header = bytearray(phantom.write(tmp_path / "T1.nii", phantom.volume(T1, GRID).astype(np.int16), GRID).read_bytes()[:352])
    header[40:56] = struct.pack("<8h", 3, 600, 600, 600, 1, 1, 1, 1)
    header[80:92], header[252:256] = struct.pack("<3f", 0.4, 0.4, 0.4), struct.pack("<2h", 1, 0)
    bomb = tmp_path / "T1.nii.gz"
    bomb.write_bytes(gzip.compress(bytes(header) + b"\0" * 2**20))
    (tmp_path / "T1.nii").unlink()
    assert answer(tmp_path) == "TRUNCATED"
    good = gzip.decompress(phantom.write(bomb, phantom.volume(T1, GRID), GRID).read_bytes())
    squeeze = zlib.compressobj(9, wbits=31)
    bomb.write_bytes(squeeze.compress(good) + b"".join(squeeze.compress(bytes(2**24)) for _ in range(8)) + squeeze.flush())
    assert answer(tmp_path) == "NOT_AN_IMAGE", "only what the header asks for is unpacked, and a little"


def test_a_checksum_that_fails_is_still_noticed(tmp_path: Path) -> None:
    file = phantom.write_study(tmp_path, (T1,)) / "T1.nii.gz"
    raw = bytearray(file.read_bytes())
    raw[-8] ^= 1
    file.write_bytes(raw)
    assert answer(tmp_path) == "TRUNCATED"


def test_file_names_that_move_the_cursor_are_shown_without(tmp_path: Path) -> None:
    phantom.write(tmp_path / "x\n\x1b[31m_T1.nii.gz", phantom.volume(T1, GRID), GRID)
    (series,) = scan([tmp_path]).series
    assert series.label == "x??[31m_T1.nii.gz"
    assert scan([tmp_path], {T2: series.label}).chosen()[T2].files == series.files


# Archives


def test_zips_that_are_bombs_or_damaged_are_refused_without_the_names_in_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(2**27))
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as packed:
        packed.writestr(NAME, os.urandom(1000))
    raw = bytearray((tmp_path / "lzma.zip").read_bytes())
    raw[60:100] = bytes(40)
    (tmp_path / "lzma.zip").write_bytes(raw)
    for name, code in (("bomb.zip", "ZIP_TOO_LARGE"), ("lzma.zip", "BAD_ZIP")):
        with pytest.raises(StudyError) as failure, unpacked([tmp_path / name]):
            pass
        assert failure.value.code == code
        assert NAME not in failure.value.problem


# Folders


@pytest.mark.skipif(os.name == "nt", reason="links and limits of POSIX")
def test_ten_thousand_empty_folders_and_a_loop_of_links_hold_nobody_up(tmp_path: Path) -> None:
    for number in range(100):
        for more in range(100):
            (tmp_path / "tree" / str(number) / str(more)).mkdir(parents=True)
    (tmp_path / "tree" / "7" / "up").symlink_to(tmp_path / "tree")
    (tmp_path / "tree" / "self").symlink_to("self")
    (tmp_path / "tree" / "gone.nii.gz").symlink_to("nowhere")
    started = time.perf_counter()
    assert scan([tmp_path / "tree"]).series == ()
    assert time.perf_counter() - started < 10
    assert json.loads(medk2n("scan", tmp_path / "tree", "--json").stdout)["data"]["series"] == []
    common = ("--in", tmp_path / "tree", "--out", tmp_path / "out", "--weights", TINY, "--json")
    assert json.loads(medk2n("batch", *common, "--dry-run").stdout)["data"]["rows"] == []
    assert failed(medk2n("synthesize", *common), 3)["code"] == "NOTHING_FOUND"


@pytest.mark.skipif(os.name == "nt", reason="paths longer than Windows has")
def test_a_study_a_thousand_folders_down_is_found(tmp_path: Path) -> None:
    folder = tmp_path
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
            folder = folder / "d"
        file = phantom.write(Path("T1.nii.gz"), phantom.volume(T1, GRID), GRID)
        assert file.exists()
        os.fchdir(home)
        assert [s.modality for s in scan([tmp_path]).series] == [T1]
    finally:
        os.fchdir(home)
        os.close(home)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # shutil recurses


JUNK = {
    "zeros": b"",
    "zeros after DICM": b"\0" * 128 + b"DICM",
    "one value without end": b"\0" * 128 + b"DICM\2\0\x10\0UI\x14\0001.2.840.10008.1.2.1\0\x09\0\x10\x10OB\0\0\xff\xff\xff\xff",
    "a sequence without end": b"\0" * 128
    + b"DICM\2\0\x10\0UI\x14\0001.2.840.10008.1.2.1\0\0\x52\x29\x92SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff",
}


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files, and memory read the Linux way")
@pytest.mark.parametrize("junk", JUNK)
def test_four_gigabytes_of_junk_are_never_read_whole(junk: str, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("T1.nii", "T1.nii.gz", "a.dcm", "a")]
    for file in files:
        file.write_bytes(JUNK[junk])
        os.truncate(file, 4 << 30)
    code = (
        "import resource, sys, time; from pathlib import Path; from medk2n_cli.reading.scan import scan; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024; before, start = peak(), time.perf_counter(); "
        "found = scan(map(Path, sys.argv[1:])).series + scan([Path(sys.argv[1]).parent]).series; "
        "print({s.code for s in found}, file=sys.stderr); print(peak() - before, time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True)
    memory, seconds = map(float, done.stdout.split())
    assert done.stderr == "{'NOT_AN_IMAGE'}\n"
    assert memory < 500
    assert seconds < 10


def test_a_sparse_image_of_four_gigabytes_is_too_large(tmp_path: Path) -> None:
    raw = bytearray(phantom.write(tmp_path / "T1.nii", phantom.volume(T1, GRID), GRID).read_bytes()[:352])
    raw[40:56] = struct.pack("<8h", 3, 1000, 1000, 1000, 1, 1, 1, 1)
    (tmp_path / "T1.nii").write_bytes(raw)
    os.truncate(tmp_path / "T1.nii", 4 << 30)
    assert only(tmp_path / "T1.nii").code == "TOO_LARGE"
    with pytest.raises(StudyError, match="voxels are none of a head"):
        scan([tmp_path], {T1: "T1.nii"})


@pytest.mark.parametrize("form", [phantom.write_study, dicoms.write_study])
def test_input_that_vanishes_between_scan_and_load_is_a_coded_error(form: Callable[..., Path], tmp_path: Path) -> None:
    chosen = scan([form(tmp_path, (T1, T2), GRID)]).chosen()
    chosen[T2].files[-1].unlink()
    with pytest.raises(StudyError) as failure:
        load(chosen)
    assert failure.value.code == "VANISHED"
    chosen[T1].files[0].write_bytes(b"something else now")
    with pytest.raises(StudyError) as failure:
        load({T1: chosen[T1]})
    assert failure.value.code in ("TRUNCATED", "NOT_AN_IMAGE", "MISSING_PIXELS")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("T1.nii", "a"):
        os.mkfifo(tmp_path / name)
    assert scan([tmp_path]).series == ()
    with pytest.raises(StudyError, match="neither a folder nor a file"):
        scan([tmp_path / "a"])
