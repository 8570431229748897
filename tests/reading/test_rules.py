from __future__ import annotations

import json
from pathlib import Path

import pytest

from medk2n_cli.core.errors import RequestError
from medk2n_cli.core.modality import Modality
from medk2n_cli.reading.rules import Rules, read_rules
from medk2n_cli.reading.scan import scan
from tests import dicoms, phantom

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def rules(folder: Path, *entries: object) -> Rules:
    file = folder / "rules.json"
    file.write_text(json.dumps({"schema": "medk2n.rules/1", "rules": list(entries)}))
    return read_rules(file)


def found(study: Path, given: Rules, **options: object) -> dict[str, tuple[Modality | None, str, str]]:
    series = scan([study], rules=given, **options).series  # type: ignore[arg-type]
    return {s.label: (s.modality, s.evidence, s.code) for s in series}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dicoms.write_study(tmp_path_factory.mktemp("s"), (T1, T2), phantom.axial((6, 6, 20)))


def test_a_rule_overrules_what_headers_say(study: Path, tmp_path: Path) -> None:
    given = rules(tmp_path, {"modality": "FLAIR", "when": {"SeriesDescription": "ax t2*"}, "name": "our T2 TSE is a FLAIR"})
    assert found(study, given)["4 AX T2 TSE"] == (FLAIR, "by our T2 TSE is a FLAIR", "")
    assert found(study, given)["3 AX T1"][0] is T1


def test_every_pattern_of_a_rule_must_fit_and_any_tag_may_be_asked(study: Path, tmp_path: Path) -> None:
    misses = rules(tmp_path, {"modality": "T1C", "when": {"SeriesDescription": "*t1*", "ReceiveCoilName": "head*"}})
    assert found(study, misses)["3 AX T1"][0] is T1
    fits = rules(tmp_path, {"modality": "T1C", "when": {"SeriesDescription": "*t1*", "RepetitionTime": "500*"}})
    assert found(study, fits)["3 AX T1"][:2] == (T1C, "by rule 1")


def test_the_first_rule_that_fits_decides(study: Path, tmp_path: Path) -> None:
    given = rules(
        tmp_path,
        {"modality": "none", "when": {"SeriesDescription": "*t1*"}},
        {"modality": "T1C", "when": {"SeriesDescription": "*t1*"}},
    )
    assert found(study, given)["3 AX T1"][2] == "NOT_A_CONTRAST"


def test_a_person_overrules_a_rule(study: Path, tmp_path: Path) -> None:
    given = rules(tmp_path, {"modality": "FLAIR", "when": {"SeriesDescription": "*t2*"}})
    assert found(study, given, use={T2: "4"})["4 AX T2 TSE"][0] is T2


def test_files_without_tags_have_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    phantom.write(folder / "scan_a.nii.gz", phantom.volume(T1, phantom.axial((6, 6, 20))), phantom.axial((6, 6, 20)))
    given = rules(tmp_path, {"modality": "T1", "when": {"File": "scan_?.nii.gz"}})
    assert found(folder, given)["scan_a.nii.gz"] == (T1, "by rule 1", "")


def test_a_rule_never_makes_an_input_of_a_synthetic_image(tmp_path: Path) -> None:
    folder = phantom.write_study(tmp_path / "s", (T1,), phantom.axial((6, 6, 20)))
    (folder / "T1.json").write_text('{"synthetic": true}')
    given = rules(tmp_path, {"modality": "T1", "when": {"File": "*"}})
    assert found(folder, given)["T1.nii.gz"][2] == "SYNTHETIC"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "Expecting value"),
        ("[]", "medk2n.rules/1"),
        ('{"schema": "medk2n.rules/1", "rules": [{"modality": "T1"}]}', "rule 1"),
        ('{"schema": "medk2n.rules/1", "rules": [{"modality": "PET", "when": {"Modality": "MR"}}]}', "PET"),
        ('{"schema": "medk2n.rules/1", "rules": [{"modality": "T1", "when": {"SeriesDescripton": "x"}}]}', "SeriesDescripton"),
        ('{"schema": "medk2n.rules/1", "rules": [{"modality": "T1", "when": {"Modality": 3}}]}', "rule 1"),
    ],
)
def test_bad_rules_are_refused_and_told(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(RequestError, match=says) as failure:
        read_rules(tmp_path / "r.json")
    assert failure.value.code == "BAD_RULES"
