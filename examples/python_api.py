"""The main job from Python: synthesise what a study lacks and read the report. python examples/python_api.py STUDY"""

from __future__ import annotations

import sys

from medk2n_cli import synthesize


def main(study: str) -> None:
    result = synthesize(study, want=["FLAIR"])
    for modality, volume in result.volumes.items():
        print(modality.value, volume.array.shape, "voxels of", [round(s, 2) for s in volume.grid.spacing], "mm")
    for target in result.report.targets:
        shares = ", ".join(f"{c.source.value} {c.share:.0%}" for c in target.contributions)
        print(f"{target.modality.value}: predicted SSIM {target.quality:.2f} from {shares}")


if __name__ == "__main__":
    main(sys.argv[1])
