"""Small DICOM series, and ways to spoil them: chance draws what is done, the same seed does the same."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medk2n_cli.core.modality import Modality
from tests import dicoms, phantom

LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
VRS = [*LONG, *(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US ZZ \x00\x00 \xff\xff".split())]
TEXTS = [
    b"../../x", b"/etc/passwd", b"..", b".", b"", b"C:\\Windows", b"a\0b", b"a\nb\x1b[31mc", b"CON", b"batch.csv", b"-rf",
    b"$(id)", b"%s{0}[red]", b"\xff\xfe\xed\xa0\x80", "Zoë ², ٣".encode(), "\u202eabc".encode(), b"T1" * 5000, b"1.2.3" * 40,
    b" ", b"\\\\",
    b"sub-" * 3000,
    b"ORIGINAL\\PRIMARY\\M\\" * 300, b"None", b"T1 T2 FLAIR ADC b0 +c mask", b"\x1b$)C\xb1\xe8", b"\x1b$B\x1b(B\x1b",
]  # fmt: skip
NUMBERS = [
    b"0", b"-1", b"nan", b"inf", b"-inf", b"1e308", b"-1e400", b"1e-300", b"", b"abc", b"1\\2\\3\\4\\5\\6\\7", b"9" * 400,
    b"9" * 5000, "²".encode(), "٣".encode(), b"0x10", b"1_000", b"\0", b"1e5", b"2147483648", b"-99999999999", b"0.5", b"1000",
    b"\\", b"1,5",
]  # fmt: skip
WORDS = [struct.pack("<H", n) for n in (0, 1, 2, 3, 7, 8, 12, 15, 16, 24, 32, 64, 255, 4096, 8000, 32768, 65535)]
WORDS += [b"", b"\x01", b"\x05\0\x05\0", b"\xff" * 8]
CHARSETS = [
    b"ISO_IR 192",
    b"ISO 2022 IR 87\\ISO 2022 IR 149",
    b"GB18030",
    b"utf_7",
    b"idna",
    b"rot13",
    b"../x",
    b"\\",
    b"zlib",
    b"GBK\\GBK",
]
DOUBLES = [struct.pack("<d", v) for v in (np.nan, np.inf, -np.inf, 1e308, 0.0, -1.0, 1e-308)]
SYNTAXES = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.3", "",
    "../..",
    "1.2.840.10008.1.2\\1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.113619.5.2",
]  # fmt: skip


@dataclass(frozen=True)
class Element:
    """tag, VR and value as they stand in a file; `length` where it is a lie."""

    tag: int
    vr: bytes
    value: bytes
    length: int | None = None

    def encoded(self, syntax: str) -> bytes:
        group, element = self.tag >> 16, self.tag & 0xFFFF
        said = len(self.value) if self.length is None else self.length
        if syntax == ImplicitVRLittleEndian:
            return struct.pack("<HHI", group, element, said & 0xFFFFFFFF) + self.value
        order, value = "<", self.value
        if syntax == ExplicitVRBigEndian:
            words = self.vr in (b"US", b"SS", b"OW") and len(value) % 2 == 0
            order, value = ">", np.frombuffer(value, "<u2").astype(">u2").tobytes() if words else value
        if self.vr in LONG:
            return struct.pack(order + "HH2sHI", group, element, self.vr, 0, said & 0xFFFFFFFF) + value
        return struct.pack(order + "HH2sH", group, element, self.vr, said & 0xFFFF) + value


@dataclass(frozen=True)
class File:
    """A DICOM file in parts: what a mutation changes."""

    elements: tuple[Element, ...]
    syntax: str = ExplicitVRLittleEndian
    said_syntax: str | None = None
    tail: bytes = b""
    spoil: tuple[Callable[[bytes], bytes], ...] = field(default=())

    def encoded(self) -> bytes:
        parts = (e.encoded(self.syntax) for e in self.elements)
        if self.syntax == DeflatedExplicitVRLittleEndian:
            squeeze = zlib.compressobj(1, wbits=-15)
            body = b"".join(squeeze.compress(p) for p in parts) + squeeze.flush()
        else:
            body = b"".join(parts)
        said = (self.syntax if self.said_syntax is None else self.said_syntax).encode()
        raw = (
            b"\0" * 128
            + b"DICM"
            + Element(0x00020010, b"UI", said + b"\0" * (len(said) % 2)).encoded(ExplicitVRLittleEndian)
            + body
            + self.tail
        )
        for change in self.spoil:
            raw = change(raw)
        return raw


def parsed(raw: bytes) -> tuple[Element, ...]:
    """The elements of an explicit little endian data set."""
    found, at = [], 0
    while at + 8 <= len(raw):
        group, element, vr, size = struct.unpack_from("<HH2sH", raw, at)
        at += 8
        if vr in LONG:
            (size,) = struct.unpack_from("<I", raw, at)
            at += 4
            if size == 0xFFFFFFFF:
                size = len(raw) - at
                found.append(Element(group << 16 | element, vr, raw[at:], 0xFFFFFFFF))
                break
        found.append(Element(group << 16 | element, vr, raw[at : at + size]))
        at += size
    return tuple(found)


def _parts(file: Path) -> File:
    raw = file.read_bytes()
    meta = 144 + struct.unpack_from("<I", raw, 140)[0]
    return File(parsed(raw[meta:]), str(pydicom.filereader.read_file_meta_info(file).TransferSyntaxUID))


def make_seeds(folder: Path) -> dict[str, list[File]]:
    """Series of small good files by name: classic in every encoding that is at hand, and an enhanced object."""
    grid = phantom.axial((12.0, 14.0, 30.0))
    array = phantom.volume(Modality.T1, grid)
    base = dicoms.header(Modality.T1, "1.2.3.4", 3)
    files = dicoms.write_series(folder / "plain", array, grid, base)[2:5]
    plain = [_parts(f) for f in files]
    seeds = {"explicit": plain, "enhanced": [_parts(dicoms.write_enhanced(folder / "enhanced", array, grid, base))]}
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        seeds[syntax.name] = [replace(f, syntax=syntax) for f in plain]
    for name, compress in (("RLE", _rle), ("JPEG", _itk), ("JPEG2000", _itk)):
        seeds[name] = [_parts(compress(f, name)) for f in files]
    if shutil.which("dcmcjpls"):
        seeds["JPEG-LS"] = [_parts(_dcmtk(f)) for f in files]
    return seeds


def _rle(file: Path, name: str) -> Path:
    ds, out = pydicom.dcmread(file), file.with_name(f"{file.name}_{name}")
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(out)
    return out


def _itk(file: Path, name: str) -> Path:
    """Pixels compressed by ITK, headers as they were."""
    ds, out = pydicom.dcmread(file), file.with_name(f"{file.name}_{name}.dcm")
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(out))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(name)
    writer.Execute(sitk.GetImageFromArray(ds.pixel_array))
    coded = pydicom.dcmread(out)
    ds.PixelData, ds.file_meta.TransferSyntaxUID = coded.PixelData, coded.file_meta.TransferSyntaxUID
    ds["PixelData"].is_undefined_length = True
    ds.save_as(out)
    return out


def _dcmtk(file: Path) -> Path:
    out = file.with_name(f"{file.name}_ls")
    subprocess.run(["dcmcjpls", file, out], check=True)
    return out


def mutated(series: list[File], rng: np.random.Generator) -> tuple[list[bytes], str]:
    """The series' files with one to four things wrong, in one file or in all of them, and what was done."""
    alone = bool(rng.random() < 0.4)
    done, state = [], rng.bit_generator.state
    changed = list(series)
    for number in [int(rng.integers(len(series)))] if alone else range(len(series)):
        rng.bit_generator.state = state  # the same to all of them
        done = []
        for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
            change = WAYS[int(rng.integers(len(WAYS)))]
            changed[number], what = change(changed[number], rng)
            done.append(what)
    return [f.encoded() for f in changed], f"{'one' if alone else 'all'}: " + "; ".join(done)


def _pick(rng: np.random.Generator, options: list[bytes]) -> bytes:
    return options[int(rng.integers(len(options)))]


def _value(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """Another value, of the kind the attribute has or of any kind."""
    at = int(rng.integers(len(file.elements)))
    old = file.elements[at]
    kinds = {b"US": WORDS, b"DS": NUMBERS, b"IS": NUMBERS, b"FD": DOUBLES}.get(old.vr, TEXTS)
    value = _pick(rng, kinds if rng.random() < 0.8 else TEXTS + NUMBERS + WORDS)
    if old.vr in (b"DS", b"IS") and b"\\" in old.value and rng.random() < 0.7:  # one of several numbers
        several = old.value.split(b"\\")
        several[int(rng.integers(len(several)))] = value
        value = b"\\".join(several)
    return _with(file, at, replace(old, value=value)), f"{old.tag:08x} = {value[:40]!r}"


def _attribute(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """An attribute that decides something, with a hostile value."""
    tag, vr, options = DECIDING[int(rng.integers(len(DECIDING)))]
    value = _pick(rng, options)
    kept = tuple(e for e in file.elements if e.tag != tag)
    new = tuple(sorted((*kept, Element(tag, vr, value)), key=lambda e: e.tag))
    return replace(file, elements=new), f"{tag:08x} {vr!r} = {value[:40]!r}"


def _vr(file: File, rng: np.random.Generator) -> tuple[File, str]:
    at = int(rng.integers(len(file.elements)))
    vr = _pick(rng, list(VRS))
    return _with(file, at, replace(file.elements[at], vr=vr)), f"{file.elements[at].tag:08x} as {vr!r}"


def _length(file: File, rng: np.random.Generator) -> tuple[File, str]:
    at = int(rng.integers(len(file.elements)))
    said = int(rng.choice([0, 1, 3, 7, 65535, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 2**20, len(file.elements[at].value) + 2]))
    return _with(file, at, replace(file.elements[at], length=said)), f"{file.elements[at].tag:08x} of length {said}"


def _tags(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """Dropped, doubled, or values changed between two."""
    a, b = (int(n) for n in rng.integers(len(file.elements), size=2))
    one, other, how = file.elements[a], file.elements[b], int(rng.integers(3))
    if how == 0:
        return replace(file, elements=file.elements[:a] + file.elements[a + 1 :]), f"without {one.tag:08x}"
    if how == 1:
        return replace(file, elements=(*file.elements[:a], one, *file.elements[a:])), f"{one.tag:08x} twice"
    swapped = _with(_with(file, a, replace(one, tag=other.tag)), b, replace(other, tag=one.tag))
    return swapped, f"{one.tag:08x} and {other.tag:08x} swapped"


def _nested(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """A sequence within a sequence within a sequence ..."""
    depth, open_ended = int(rng.choice([3, 100, 900, 3000])), bool(rng.random() < 0.5)
    tag = int(rng.choice([0x52009229, 0x52009230, 0x00081140, 0x00180012]))
    inner = b""
    for _ in range(depth):
        size = 0xFFFFFFFF if open_ended else None
        inner = Element(0xFFFEE000, b"", inner, size).encoded(ImplicitVRLittleEndian)
        inner = Element(tag, b"SQ", inner, size).encoded(ExplicitVRLittleEndian)
    kept = tuple(e for e in file.elements if e.tag != tag)
    start = inner[12:]
    new = tuple(sorted((*kept, Element(tag, b"SQ", start, 0xFFFFFFFF if open_ended else None)), key=lambda e: e.tag))
    return replace(file, elements=new), f"{depth} nested in {tag:08x}"


def _syntax(file: File, rng: np.random.Generator) -> tuple[File, str]:
    said = SYNTAXES[int(rng.integers(len(SYNTAXES)))]
    return replace(file, said_syntax=str(said)), f"transfer syntax {said}"


def _flips(file: File, rng: np.random.Generator) -> tuple[File, str]:
    seed, many = int(rng.integers(2**32)), int(rng.choice([1, 4, 30]))
    body = bool(rng.random() < 0.8)  # the preamble is nothing's

    def flip(raw: bytes) -> bytes:
        spoiled, chance = bytearray(raw), np.random.default_rng(seed)
        for at in chance.integers(128 if body else 0, len(raw), size=many) if len(raw) > 128 else ():
            spoiled[at] ^= 1 << int(chance.integers(8))
        return bytes(spoiled)

    return replace(file, spoil=(*file.spoil, flip)), f"{many} bits flipped ({seed})"


def _stream(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """Bits of the pixels, mostly of where a compressed image says how large it is."""
    at = next((n for n, e in enumerate(file.elements) if e.tag == 0x7FE00010), None)
    if at is None or len(file.elements[at].value) < 10:
        return file, "nothing"
    spoiled, far = bytearray(file.elements[at].value), 90 if rng.random() < 0.7 else 10**9
    places = rng.integers(0, min(far, len(spoiled)), size=int(rng.choice([1, 2, 8])))
    for place in places:
        spoiled[place] = int(rng.choice([0, 1, 2, 127, 128, 255, spoiled[place] ^ (1 << int(rng.integers(8)))]))
    return _with(file, at, replace(file.elements[at], value=bytes(spoiled))), f"pixel bytes {places.tolist()}"


def _cut(file: File, rng: np.random.Generator) -> tuple[File, str]:
    share = float(rng.random())
    return replace(file, spoil=(*file.spoil, lambda raw: raw[: int(len(raw) * share)])), f"cut to {share:.3f}"


def _tail(file: File, rng: np.random.Generator) -> tuple[File, str]:
    tail = [b"\0" * 100_000, b"\xff" * 1000, b"\xfe\xff\x00\xe0" * 1000, rng.bytes(500)][int(rng.integers(4))]
    return replace(file, tail=tail), f"{len(tail)} bytes more"


def _bomb(file: File, rng: np.random.Generator) -> tuple[File, str]:
    """A little that unpacks to much, or pixels that are not there."""
    if rng.random() < 0.1:
        size = int(rng.choice([2**24, 2**27]))
        element = Element(0x00091001, b"OB", b"\0" * size)
        new = tuple(sorted((*file.elements, element), key=lambda e: e.tag))
        return replace(file, syntax=DeflatedExplicitVRLittleEndian, elements=new), f"deflated {size} bytes"
    rows, columns = (int(n) for n in rng.choice([0, 1, 1000, 8000, 32768, 65535], size=2))
    kept = [e for e in file.elements if e.tag not in (0x00280010, 0x00280011)]
    kept += [Element(0x00280010, b"US", struct.pack("<H", rows)), Element(0x00280011, b"US", struct.pack("<H", columns))]
    return replace(file, elements=tuple(sorted(kept, key=lambda e: e.tag))), f"{rows} x {columns} pixels"


def _with(file: File, at: int, element: Element) -> File:
    return replace(file, elements=(*file.elements[:at], element, *file.elements[at + 1 :]))


_POSITIONS = [b"0\\0\\" + n for n in NUMBERS] + [b"1e308\\1e308\\1e308", b"1\\2", b"", b"0\\0\\0"]
_SPACINGS = [b"1\\" + n for n in NUMBERS] + [b"1e-9\\1e-9", b"1e6\\1e6", b"-1\\-1", b"0\\0", b"1e308\\1e308", b"100\\100"]
_ORIENTATIONS = [b"1\\0\\0\\0\\1\\" + n for n in NUMBERS] + [
    b"0\\0\\0\\0\\0\\0",
    b"1\\0\\0\\1\\0\\0",
    b"1e200\\0\\0\\0\\1e200\\0",
]
# Attributes that reading decides by: tag, VR, hostile values.
DECIDING: list[tuple[int, bytes, list[bytes]]] = [
    (0x00200032, b"DS", _POSITIONS), (0x00280030, b"DS", _SPACINGS), (0x00200037, b"DS", _ORIENTATIONS),
    (0x00280010, b"US", WORDS), (0x00280011, b"US", WORDS), (0x00280002, b"US", WORDS), (0x00280100, b"US", WORDS),
    (0x00280101, b"US", WORDS), (0x00280102, b"US", WORDS), (0x00280103, b"US", WORDS), (0x00280006, b"US", WORDS),
    (0x00280010, b"SS", WORDS), (0x00280010, b"UL", WORDS), (0x00280010, b"LO", NUMBERS), (0x00280011, b"FD", DOUBLES),
    (0x00280008, b"IS", NUMBERS), (0x00281052, b"DS", NUMBERS), (0x00281053, b"DS", NUMBERS), (0x00280004, b"CS", TEXTS),
    (0x0020000D, b"UI", TEXTS), (0x0020000E, b"UI", TEXTS), (0x00080016, b"UI", TEXTS), (0x00080018, b"UI", TEXTS),
    (0x00200052, b"UI", TEXTS), (0x0020000D, b"UT", TEXTS), (0x0008103E, b"LO", TEXTS), (0x0008103E, b"PN", TEXTS),
    (0x00200011, b"IS", NUMBERS), (0x00200011, b"LO", TEXTS), (0x00100010, b"PN", TEXTS), (0x00100020, b"LO", TEXTS),
    (0x00080005, b"CS", CHARSETS), (0x00080005, b"CS", TEXTS), (0x00080008, b"CS", TEXTS), (0x00189087, b"FD", DOUBLES),
    (0x00189087, b"DS", NUMBERS), (0x00180080, b"DS", NUMBERS), (0x00180081, b"DS", NUMBERS), (0x00180082, b"DS", NUMBERS),
    (0x00180020, b"CS", TEXTS), (0x00180010, b"LO", TEXTS), (0x00180012, b"SQ", TEXTS), (0x52009229, b"SQ", TEXTS),
    (0x52009230, b"UN", TEXTS), (0x00200100, b"IS", NUMBERS), (0x7FE00010, b"OB", [b"", b"\0", b"\xff" * 1000]),
    (0x7FE00008, b"OF", [b"\xff" * 728]), (0x7FE00009, b"OD", [b"\xff" * 1456]), (0x00080060, b"CS", TEXTS),
    (0x00100030, b"DA", TEXTS),
]  # fmt: skip
WAYS: list[Callable[[File, np.random.Generator], tuple[File, str]]] = [
    _value, _value, _attribute, _attribute, _attribute, _attribute, _vr, _length, _tags, _nested, _syntax, _flips, _flips,
    _stream, _stream, _cut, _tail, _bomb,
]  # fmt: skip
