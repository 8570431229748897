from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.dicom_headers import Slice
from medk2n_cli.reading.dicom_recognise import recognise_slices

TABLE = json.loads((Path(__file__).parents[1] / "data" / "series_descriptions.json").read_text(encoding="utf-8"))


def tagged(row: dict[str, object]) -> Slice:
    ds = Dataset()
    for name, value in row.items():
        if name not in ("vendor", "expected"):
            setattr(ds, name, value.split("\\") if isinstance(value, str) and "\\" in value else value)
    return Slice(Path("x"), 0, ds, (), np.zeros(3), np.eye(3)[0], np.eye(3)[1], (1.0, 1.0))


@pytest.mark.parametrize("row", TABLE, ids=lambda r: f"{r['vendor']} {r['SeriesDescription'] or r['ScanningSequence']}")
def test_a_real_worlds_series_is_recognised_or_left_alone(row: dict[str, object]) -> None:
    answer = recognise_slices(tagged(row))
    if answer.modality is not None:
        assert answer.modality.value == row["expected"], answer.evidence
        assert answer.evidence
    else:
        allowed = {"unused": ("NOT_A_CONTRAST", "SYNTHETIC"), "unknown": ("UNKNOWN_CONTRAST", "CONTRADICTION")}
        assert row["expected"] in allowed, f"{answer.code}: {answer.evidence}"
        assert answer.code in allowed[str(row["expected"])] or row["expected"] == "unknown", answer.evidence


def test_the_table_is_wide_enough() -> None:
    assert len(TABLE) >= 60
    assert {r["vendor"] for r in TABLE} >= {"Siemens", "GE", "Philips", "Canon", "Hitachi", "UIH"}
    assert {r["expected"] for r in TABLE} >= {m.value for m in Modality}


def test_a_contradiction_names_both_sides() -> None:
    answer = recognise_slices(
        tagged({"SeriesDescription": "T1 axial", "ScanningSequence": "SE", "RepetitionTime": 5200, "EchoTime": 105})
    )
    assert answer.code == "CONTRADICTION"
    assert "'T1'" in answer.evidence.upper()
    assert "T2" in answer.evidence
