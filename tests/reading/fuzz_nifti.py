"""Small NIfTI files, and ways to spoil them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from medk2n_cli.core.modality import Modality
from tests import phantom

# NIfTI-1 header fields by name: offset, layout, hostile values for each of its numbers.
_SHORTS = [0, 1, -1, 2, 3, 4, 5, 7, 8, 9, 100, 30000, 32767, -32768]
_FLOATS = [0.0, -1.0, 1.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-38, 1e6, 352.0, 348.0, 1e9, 2.5, 4e9, -352.0]
_TYPES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 9999]
FIELDS: dict[str, tuple[int, str, list[float]]] = {
    "sizeof_hdr": (0, "i", [0, 348, 540, -1, 1543569408, 469893120]),
    "dim": (40, "8h", _SHORTS),  # type: ignore[dict-item]
    "intent": (56, "3f", _FLOATS),
    "intent_code": (68, "h", [0, 1001, 1005, 1007, 2003, -1]),
    "datatype": (70, "h", _TYPES),  # type: ignore[dict-item]
    "bitpix": (72, "h", [0, 1, 8, 16, 32, 64, 128, 256, -8, 32767]),
    "pixdim": (76, "8f", _FLOATS),
    "vox_offset": (108, "f", _FLOATS),
    "scl": (112, "2f", _FLOATS),
    "units": (123, "B", [0, 1, 2, 3, 10, 255]),
    "toffset": (136, "f", _FLOATS),
    "form_codes": (252, "2h", [0, 1, 2, 4, 5, -1, 32767]),
    "quaternion": (256, "6f", _FLOATS),
    "sform": (280, "12f", _FLOATS),
    "extension": (348, "4B", [0, 1, 2, 255]),
}
_NAMES = (
    "T1.nii",
    "T1.nii.gz",
    "T2.NII.GZ",
    "..T1.nii",
    "x\n\x1b[31m_FLAIR.nii.gz",
    "T1_mask.nii.gz",
    "-T1.nii.gz",
    "² T1.nii.gz",
)
_SIDECARS = (
    b"[" * 200_000, b"{" + b'"a":{' * 100_000, b"\xff\xfe", b"[]", b'"x"', b'{"synthetic": 1}', b'{"EchoTime": 1e999}',
    b'{"EchoTime": NaN}',
    b'{"EchoTime": ' + b"9" * 6000 + b"}", b'{"SeriesDescription": {"a": [1, null]}, "ContrastBolusAgent": []}', b"{", b"",
    b'{"SeriesDescription": "\\ud800 T1"}', b'{"ProtocolName": "' + b"sub-" * 100_000 + b'"}',
)  # fmt: skip


def make_seed() -> bytes:
    """A good uncompressed file of a few hundred voxels."""
    import tempfile

    grid = phantom.axial((20.0, 24.0, 30.0))
    with tempfile.TemporaryDirectory() as folder:
        file = phantom.write(Path(folder) / "a.nii", phantom.volume(Modality.T1, grid).astype(np.int16), grid)
        return file.read_bytes()


def write_mutated(folder: Path, raw: bytes, rng: np.random.Generator) -> str:
    """One file in `folder` with one to four things wrong; what was done."""
    name = _NAMES[int(rng.integers(len(_NAMES)))] if rng.random() < 0.3 else _NAMES[int(rng.integers(2))]
    done, spoiled = [name], bytearray(raw)
    if rng.random() < 0.1:
        spoiled = _swapped(spoiled)
        done.append("big endian")
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        done.append(_spoil(spoiled, rng))
    packed = bytes(spoiled)
    if name.lower().endswith(".gz") and rng.random() < 0.95:
        packed = gzip.compress(packed + (b"\0" * int(rng.choice([2**20, 2**26])) if rng.random() < 0.05 else b""), 1)
        if rng.random() < 0.15:
            packed = _flipped(packed, rng)
            done.append("gzip flipped")
    if rng.random() < 0.1:
        packed = packed[: int(rng.integers(len(packed) + 1))]
        done.append(f"cut to {len(packed)}")
    (folder / name).write_bytes(packed)
    if rng.random() < 0.1:
        sidecar = _SIDECARS[int(rng.integers(len(_SIDECARS)))]
        (folder / "T1.json").write_bytes(sidecar)
        done.append(f"sidecar {sidecar[:20]!r}")
    return "; ".join(done)


def _spoil(raw: bytearray, rng: np.random.Generator) -> str:
    how = rng.random()
    if how < 0.15:
        raw[:] = _flipped(bytes(raw), rng)
        return "bits flipped"
    if how < 0.2:
        del raw[int(rng.integers(len(raw))) :]
        return "cut"
    if how < 0.25:
        magic = (b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+1 ")[int(rng.integers(4))]
        raw[344:348] = magic
        return f"magic {magic!r}"
    if how < 0.35:
        dim = (b"<8h", 3, *(int(n) for n in rng.choice([1, 2, 100, 2000, 30000], size=3)), 1, 1, 1, 1)
        raw[40:56] = struct.pack(*dim)
        return f"dim {dim[1:5]}"
    name = list(FIELDS)[int(rng.integers(len(FIELDS)))] if rng.random() < 0.7 else ("sform", "quaternion")[int(rng.integers(2))]
    offset, layout, values = FIELDS[name]
    one, count = layout[-1], int(layout[:-1] or 1)
    at = offset + int(rng.integers(count)) * struct.calcsize(one)
    value = values[int(rng.integers(len(values)))]
    if len(raw) > at + 8:
        struct.pack_into("<" + one, raw, at, value)
    return f"{name} at {at} = {value}"


def _flipped(raw: bytes, rng: np.random.Generator) -> bytes:
    spoiled = bytearray(raw)
    for at in rng.integers(0, max(1, min(len(raw), 400 if rng.random() < 0.7 else len(raw))), size=int(rng.choice([1, 4, 30]))):
        if len(spoiled):
            spoiled[at] ^= 1 << int(rng.integers(8))
    return bytes(spoiled)


def _swapped(raw: bytearray) -> bytearray:
    """The header's numbers the other way round (the voxels are 16 bit)."""
    out = bytearray(raw)
    for offset, layout, _ in FIELDS.values():
        if layout[-1] != "B":
            struct.pack_into(">" + layout, out, offset, *struct.unpack_from("<" + layout, raw, offset))
    out[352:] = np.frombuffer(bytes(raw[352:]), "<i2").astype(">i2").tobytes()
    return out
