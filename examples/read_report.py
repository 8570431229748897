"""Reading a result with nothing but the standard library. python examples/read_report.py RESULT_FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str) -> None:
    report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    assert report["schema"] == "medk2n.fusion-report/1"
    for target in report["targets"]:
        refused = [c["source"] for c in target["contributions"] if not c["gate"]]
        print(target["modality"], "predicted SSIM", target["quality"], "refused:", ", ".join(refused) or "none")
        for warning in target["warnings"]:
            print("  warning:", warning)


if __name__ == "__main__":
    main(sys.argv[1])
