"""Tissues: which labels they have, and how they relax and diffuse.

Values are a 3 T / 1.5 T blend of the MR literature. T1, T2 in ms, PD relative to water, ADC in
1e-3 mm2/s; `uptake` is the relative concentration of a gadolinium contrast agent minutes after injection;
`fat` is the share of the signal that fat suppression takes away, `myelin` how far it is open to magnetisation transfer, which
the many refocusing pulses of a multislice turbo spin echo cause (Melki, Mulkern: Magnetic Resonance in Medicine 24, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """One row of the table; `spread` is the relative standard deviation between people."""

    name: str
    labels: tuple[int, ...]
    t1: float
    t2: float
    pd: float
    adc: float
    uptake: float = 0.0
    spread: float = 0.05
    fat: float = 0.0
    myelin: float = 0.0


# The index in this tuple is the class number used throughout the simulator. Class 0 is air.
TISSUES: tuple[Tissue, ...] = (
    Tissue("air", (0,), 1000, 30, 0.0, 0.0, spread=0.0),
    Tissue("white matter", (2, 41, 136, 137, 163, 164, 85), 800, 72, 0.70, 0.75, spread=0.03, myelin=1.0),
    Tissue("cerebellar white matter", (7, 46), 820, 74, 0.71, 0.72, myelin=1.0),
    Tissue("cortex", (3, 42), 1180, 86, 0.83, 0.85, spread=0.03, myelin=0.3),
    Tissue("cerebellar cortex", (8, 47), 1140, 83, 0.82, 0.80, myelin=0.3),
    Tissue("hippocampus and amygdala", (17, 53, 18, 54), 1200, 90, 0.84, 0.88, myelin=0.3),
    Tissue("thalamus", (10, 49), 1040, 80, 0.76, 0.78, myelin=0.6),
    Tissue("caudate and accumbens", (11, 50, 26, 58), 1180, 84, 0.79, 0.77, spread=0.08, myelin=0.6),
    Tissue("putamen", (12, 51, 25, 57), 1120, 76, 0.78, 0.75, spread=0.10, myelin=0.6),
    Tissue("pallidum", (13, 52), 920, 60, 0.73, 0.78, spread=0.12, myelin=0.6),
    Tissue("brain stem", (16, 28, 60, 512), 900, 75, 0.72, 0.78, myelin=1.0),
    Tissue("ventricular CSF", (4, 5, 14, 15, 43, 44, 72), 4000, 1300, 1.0, 3.0, spread=0.04),
    Tissue("outer CSF", (24,), 3600, 900, 0.98, 2.8, 0.02, spread=0.08),
    Tissue("vessels", (30, 62, 502, 514), 1700, 150, 0.90, 2.0, 1.0, spread=0.15),
    Tissue("skin and fat", (511,), 380, 90, 0.88, 0.5, 0.1, spread=0.15, fat=0.9),
    Tissue("muscle", (507, 508, 530), 1200, 42, 0.75, 1.4, 0.15, spread=0.10),
    Tissue("mucosa", (509,), 1500, 90, 0.85, 1.6, 0.8, spread=0.15),
    Tissue("cortical bone", (515,), 600, 2, 0.10, 0.1, spread=0.2),
    Tissue("bone marrow", (516,), 450, 60, 0.60, 0.4, 0.1, spread=0.2, fat=0.85),
    Tissue("eye", (506,), 3500, 700, 1.0, 2.8, spread=0.08),
    # Lesions, drawn by the simulator. On the network's scale (white matter 0.5 in FLAIR) lesions of real MS patients lie at
    # 0.7 to 0.9 in FLAIR and at 1.1 in T2, 1.3 times cortex. Here 109 ms beside the cortex of 86 give about that; 140 ms beside
    # 95 gave 1.0 and 1.5, 1.8 times cortex, so near to fluid that networks took one for the other.
    Tissue("oedema", (), 1400, 120, 0.86, 1.4, spread=0.08),
    Tissue("tumour core", (), 1400, 111, 0.85, 1.1, 0.25, spread=0.10),
    Tissue("enhancing rim", (), 1350, 104, 0.85, 1.1, 1.0, spread=0.08),
    Tissue("necrosis", (), 2700, 320, 0.95, 2.0, 0.05, spread=0.12),
    Tissue("MS lesion", (), 1300, 109, 0.84, 1.1, spread=0.10),
    Tissue("enhancing MS lesion", (), 1300, 112, 0.85, 1.1, 0.7, spread=0.10),
    Tissue("acute stroke", (), 1200, 102, 0.82, 0.45, spread=0.10),
    Tissue("old stroke", (), 2600, 350, 0.95, 2.1, spread=0.15),
)

CLASS = {tissue.name: number for number, tissue in enumerate(TISSUES)}
WHITE = (CLASS["white matter"], CLASS["cerebellar white matter"], CLASS["brain stem"])
BRAIN = tuple(range(CLASS["white matter"], CLASS["vessels"] + 1))
SOLID_BRAIN = tuple(range(CLASS["white matter"], CLASS["brain stem"] + 1))
FLUIDS = tuple(CLASS[name] for name in ("ventricular CSF", "outer CSF", "eye"))
LESIONS = tuple(range(CLASS["oedema"], len(TISSUES)))


def label_to_class() -> dict[int, int]:
    """Label of data/label_maps -> class number; labels not in the table count as muscle."""
    return {label: number for number, tissue in enumerate(TISSUES) for label in tissue.labels}
