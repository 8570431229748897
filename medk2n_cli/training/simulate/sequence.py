"""MR signal equations and the range of protocols that clinics use.

Spin echo PD (1 - exp(-TR/T1)) exp(-TE/T2); inversion recovery spin echo with 1 - 2 exp(-TI/T1) + exp(-TR/T1);
MPRAGE PD |1 - 2 exp(-TI/T1) / (1 + exp(-TR/T1))|; spoiled gradient echo at the Ernst condition of its flip angle;
DWI a spin echo times exp(-b ADC) (Bernstein, King, Zhou: Handbook of MRI Pulse Sequences, 2004).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from medk2n_cli.core.modality import Modality

CSF_T1_MS = 4000.0
RELAXIVITY = 4.5e-3  # 1 / (ms mmol/l)


@dataclass(frozen=True)
class Sequence:
    """One protocol: kind is "SE", "IR", "MPRAGE", "SPGR", "DWI" or "ADC"; times in ms, b in s/mm2, flip in degrees."""

    kind: str
    tr: float = 0.0
    te: float = 0.0
    ti: float = 0.0
    b: float = 0.0
    flip: float = 90.0
    dose: float = 0.0  # mmol/l of contrast agent at uptake 1
    fat: float = 1.0  # share of the fat signal that is left
    transfer: float = 0.0  # share of white matter's signal lost to magnetisation transfer

    def to_dict(self) -> dict[str, float | str]:
        """Plain values, to replay or to write beside a study."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class TissueMaps:
    """T1, T2 in ms, PD, ADC in 1e-3 mm2/s, uptake, share of fat, myelin; tensors of one shape."""

    t1: Tensor
    t2: Tensor
    pd: Tensor
    adc: Tensor
    uptake: Tensor
    fat: Tensor
    myelin: Tensor


COLUMNS = tuple(f.name for f in fields(TissueMaps))  # of a drawn table of tissues, in this order


def signal(sequence: Sequence, maps: TissueMaps) -> Tensor:
    """The noise-free magnitude signal, same shape as the maps; ADC comes out in 1e-3 mm2/s."""
    if sequence.kind == "ADC":
        return maps.adc
    magnitude = _magnitude(sequence, maps) * (1 - sequence.transfer * maps.myelin)
    return magnitude * (1 - (1 - sequence.fat) * maps.fat) if sequence.fat < 1 else magnitude


def _magnitude(sequence: Sequence, maps: TissueMaps) -> Tensor:
    r1 = 1.0 / maps.t1
    if sequence.dose:
        r1 = r1 + RELAXIVITY * sequence.dose * maps.uptake
    if sequence.kind == "MPRAGE":
        recovered = 1 - 2 * torch.exp(-sequence.ti * r1) / (1 + torch.exp(-sequence.tr * r1))
        return maps.pd * recovered.abs()
    if sequence.kind == "SPGR":
        e1, a = torch.exp(-sequence.tr * r1), math.radians(sequence.flip)
        return maps.pd * math.sin(a) * (1 - e1) / (1 - math.cos(a) * e1)
    if sequence.kind == "IR":
        recovered = (1 - 2 * torch.exp(-sequence.ti * r1) + torch.exp(-sequence.tr * r1)).abs()
    else:
        recovered = 1 - torch.exp(-sequence.tr * r1)
    echo = maps.pd * recovered * torch.exp(-sequence.te / maps.t2)
    return echo * torch.exp(-sequence.b * 1e-3 * maps.adc) if sequence.kind == "DWI" else echo


_FAT_SUPPRESSED = {Modality.T1: 0.1, Modality.T1C: 0.15, Modality.T2: 0.15, Modality.FLAIR: 0.5, Modality.DWI: 0.95}


def draw_sequence(modality: Modality, rng: np.random.Generator) -> Sequence:
    """A protocol for `modality` from the range clinics use, with or without fat suppression."""
    drawn = _contrast(modality, rng)
    suppressed = rng.random() < _FAT_SUPPRESSED.get(modality, 0.0)
    return replace(drawn, fat=float(rng.uniform(0.0, 0.2))) if suppressed else drawn


def _null(tr: float) -> float:
    """Inversion time at which cerebrospinal fluid gives no signal, ms."""
    return CSF_T1_MS * math.log(2 / (1 + math.exp(-tr / CSF_T1_MS)))


def _contrast(modality: Modality, rng: np.random.Generator) -> Sequence:
    u = rng.uniform
    if modality in (Modality.T1, Modality.T1C):
        dose = u(0.15, 0.9) if modality is Modality.T1C else 0.0
        kind = rng.choice(["SE", "MPRAGE", "SPGR", "IR"], p=[0.4, 0.3, 0.2, 0.1])
        if kind == "SE":
            return Sequence("SE", tr=u(380, 750), te=u(7, 20), dose=dose)
        if kind == "MPRAGE":
            return Sequence("MPRAGE", tr=u(600, 1600), ti=u(700, 1100), te=3, dose=dose)
        if kind == "SPGR":
            return Sequence("SPGR", tr=u(8, 30), te=4, flip=u(15, 30), dose=dose)
        tr = u(1800, 2500)
        return Sequence("IR", tr=tr, ti=_null(tr) * u(0.92, 1.08), te=u(8, 20), dose=dose)  # T1 FLAIR
    if modality is Modality.T2:
        return Sequence("SE", tr=u(2800, 7000), te=u(75, 115), transfer=u(0.0, 0.15))
    if modality is Modality.FLAIR:
        tr = u(5000, 11000)
        return Sequence("IR", tr=tr, ti=_null(tr) * u(0.95, 1.02), te=u(95, 145), transfer=u(0.05, 0.15))
    if modality is Modality.DWI:
        return Sequence("DWI", tr=u(3500, 8000), te=u(60, 100), b=u(900, 1100))
    return Sequence("ADC")
