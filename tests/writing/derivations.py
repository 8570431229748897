"""A synthesis of a DICOM study without a network in between: the 'synthesised' volume is whatever a test wants to find again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medk2n_cli.core.fusion import Contribution, FusionReport, InputReport, ModelStamp, Synthesis, TargetReport
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading.scan import scan
from medk2n_cli.writing.acquired import Acquired
from medk2n_cli.writing.dicom_study import write_dicom_study

STAMP = ModelStamp("medk2n-test", "1.0", "ab" * 32)


def target_report(target: Modality, sources: tuple[Modality, ...]) -> TargetReport:
    """The first source is the key frame; the last of three or more is refused."""
    made = tuple(
        Contribution(s, n == 0, 0.6, 0.5, int(n < 2), 0.5, 0.5 if n < 2 else 0.0, 0.01, (0.6,), (0.5,))
        for n, s in enumerate(sources)
    )
    return TargetReport(target, 0.81234, 40.0, target.units, {target: 0.9}, "full", 0.91, (), made, (0.8,))


def synthesis(target: Modality, volume: Volume, sources: tuple[Modality, ...]) -> Synthesis:
    inputs = tuple(
        InputReport(m, m.value, "a test", 0.0, 0.0, "reference" if n == 0 else "kept", "none", {m: 1.0})
        for n, m in enumerate(sources)
    )
    return Synthesis({target: volume}, FusionReport(STAMP, inputs, (target_report(target, sources),), ()))


def views_of(volume: Volume, target: Modality, sources: tuple[Modality, ...]) -> Views:
    image = (volume.array / 1000).astype(np.float16)
    return Views(volume.grid, image > 0.02, dict.fromkeys(sources, image), {target: image}, {target: image * np.float16(0.2)})


def derive(study: Path, out: Path, target: Modality, volume: Volume, options: str = "{}", deidentify: bool = False) -> list[Path]:
    """Everything below ``out/dicom`` for one target made from all that `study` holds."""
    found = scan([study])
    chosen = found.chosen()
    out.mkdir(parents=True, exist_ok=True)
    made = synthesis(target, volume, tuple(chosen))
    return write_dicom_study(out, made, Acquired(found, chosen, views_of(volume, target, tuple(chosen))), options, deidentify)
