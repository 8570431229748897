from __future__ import annotations

import pytest

from medk2n_cli.reading.recognise import recognise

NAMES = [
    ("sub-01_T1w", "T1"),
    ("sub-01_ses-2_acq-mprage_T1w", "T1"),
    ("sub-01_ce-gadolinium_T1w", "T1C"),
    ("sub-01_T2w", "T2"),
    ("sub-01_FLAIR", "FLAIR"),
    ("sub-01_dwi", "DWI"),
    ("sub-01_ADC", "ADC"),
    ("BraTS-GLI-00000-000-t1n", "T1"),
    ("BraTS-GLI-00000-000-t1c", "T1C"),
    ("BraTS-GLI-00000-000-t2w", "T2"),
    ("BraTS-GLI-00000-000-t2f", "FLAIR"),
    ("BraTS20_Training_001_t1", "T1"),
    ("BraTS20_Training_001_t1ce", "T1C"),
    ("BraTS20_Training_001_t2", "T2"),
    ("BraTS20_Training_001_flair", "FLAIR"),
    ("sub-strokecase0001_ses-0001_adc", "ADC"),
    ("dwi", "DWI"),
    ("adc", "ADC"),
    ("flair", "FLAIR"),
    ("T2", "T2"),
    ("t1", "T1"),
    ("T1_post_contrast", "T1C"),
    ("AX_T1_POST_GD_FLAIR", "T1C"),
    ("sag T1 FLAIR", "T1"),
    ("Ax T2 FLAIR FS", "FLAIR"),
    ("t2_flair_space", "FLAIR"),
    ("t1 ce", "T1C"),
    ("ax T2 TSE", "T2"),
    ("3D_MPRAGE", "T1"),
    ("T1_MPRAGE_gado", "T1C"),
    ("DWI_ADC", "ADC"),
    ("sub-01_space-T1w_FLAIR", "FLAIR"),
    ("sub-01_space-T1w_desc-preproc_T2w", "T2"),
    ("FLAIR_to_T1", "FLAIR"),
    ("T1w_to_FLAIR", "T1"),
    ("t2_tirm_tra_dark-fluid", "FLAIR"),
    ("t2_spc_da-fl_sag", "FLAIR"),
    ("T1W_3D_TFE_SAG_C+", "T1C"),
    ("AX T1 +C", "T1C"),
    ("T1 C-", "T1"),
    ("T1_pre_contrast", "T1"),
    ("T1_non_contrast", "T1"),
    ("T1_without_contrast", "T1"),
    ("ax_t1_se_pre_gd", "T1"),
    ("T1_ohne_KM", "T1"),
    ("sub-01_ce-none_T1w", "T1"),
    ("sub-01_ses-post_T1w", "T1"),
    ("ADC_map", "ADC"),
    ("AX T1 W/O CONTRAST", "T1"),
    ("AX_T1_W_O_CONTRAST", "T1"),
    ("T1 without iv contrast", "T1"),
    ("AX T1 -C", "T1"),
    ("T1 (-C)", "T1"),
    ("t1_tse_tra vor KM", "T1"),
    ("T1 o KM", "T1"),
    ("T1 pr\u00e4 KM", "T1"),
    ("T1 avant gado", "T1"),
    ("T1 SIN GD", "T1"),
    ("SAG T1 NONCON", "T1"),
    ("T1 no FS", "T1"),
    ("T1 W/CONTRAST", "T1C"),
    ("T1 NON FS POST GAD", "T1C"),
    ("T1 PRE OP GAD", "T1C"),
    ("T1 Gadovist", "T1C"),
    ("T1 dotarem", "T1C"),
    ("3D T1 MPRAGE PostCon", "T1C"),
    ("t1ce postop", "T1C"),
]
UNKNOWN = [
    "image",
    "scan_0001",
    "t2star",
    "T2*_gre",
    "swi",
    "MRA_TOF",
    "localizer_t1",
    "PD_T2",
    "T1_T2",
    "synth_FLAIR",
    "BraTS20_Training_001_seg",
    "T1_brain_mask",
    "lesions",
    "sub-01_bold",
    "perfusion_dsc",
    "T1_subtraction",
    "CT_head",
    "t2_tirm_sag",
    "T2_STIR",
    "T1_map",
    "T2_map",
    "T1_segmentation",
    "FLAIR_lesionmask",
    "t1gd_lesionmap",
    "FLAIR_consensus_gt",
    "T1_wmparc",
    "T1_biasfield",
    "T1_sub",
    "T1_subtracted",
    "DWI_b0",
    "DWI_eADC",
    "DWI_SBRef",
    "exp_adc",
    "post_T1_reg",
    "flair_T1",
    "AX T1 POST OP",
    "T1 POST PROCESSED",
    "T1 W WO CONTRAST",
    "T1 with and without contrast",
    "T1 pre post gd",
    "t2_swi3d_tra_p2_1.5mm",
    "t2_fl2d_tra_hemo_p2",
    "AX T2 STAR",
    "AX T2 GRE",
    "T2W_FFE",
    "T2 MERGE",
]


@pytest.mark.parametrize(("name", "modality"), NAMES)
def test_a_name_people_use_is_recognised(name: str, modality: str) -> None:
    answer = recognise(name)
    assert answer.modality is not None
    assert answer.modality.value == modality
    assert "'" in answer.evidence, "the evidence quotes the word that decided"


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_is_allowed_and_wrong_is_not(name: str) -> None:
    answer = recognise(name)
    assert answer.modality is None
    assert answer.evidence
    assert answer.code


def test_a_contrast_agent_in_the_sidecar_makes_a_t1_a_t1c() -> None:
    answer = recognise("T1w", {"SeriesDescription": "t1 mprage", "ContrastBolusIngredient": "GADOLINIUM"})
    assert answer.modality is not None
    assert answer.modality.value == "T1C"
    assert "contrast agent" in answer.evidence


def test_a_sidecar_names_a_file_whose_name_says_nothing() -> None:
    answer = recognise("0007", {"SeriesDescription": "AX FLAIR LONGTR"})
    assert answer.modality is not None
    assert answer.modality.value == "FLAIR"


def test_name_and_sidecar_that_contradict_each_other_are_unknown_with_both_said() -> None:
    answer = recognise("T2", {"SeriesDescription": "Ax FLAIR"})
    assert answer.modality is None
    assert answer.code == "CONTRADICTION"
    assert "t2" in answer.evidence
    assert "flair" in answer.evidence


@pytest.mark.parametrize("agent", ["none", "NO", "n/a", ""])
def test_an_agent_called_none_is_no_agent(agent: str) -> None:
    answer = recognise("scan", {"SeriesDescription": "AX T1", "ContrastBolusAgent": agent})
    assert answer.modality is not None
    assert answer.modality.value == "T1"


@pytest.mark.parametrize(("name", "description"), [("T1", "T2 swi"), ("T1w", "localizer"), ("image", "SUBTRACTION")])
def test_a_sidecar_that_names_something_else_wins_over_the_name(name: str, description: str) -> None:
    answer = recognise(name, {"SeriesDescription": description, "ProtocolName": "t1 post"})
    assert answer.modality is None
    assert answer.code == "NOT_A_CONTRAST"


def test_a_gradient_echo_in_the_sidecar_is_no_t2() -> None:
    answer = recognise("7_t2", {"ScanningSequence": "GR", "EchoTime": 0.02})
    assert answer.modality is None
    assert answer.code == "CONTRADICTION"
    assert "gradient echo" in answer.evidence


def test_the_evidence_of_a_t1c_names_the_agent() -> None:
    assert "contrast agent" in recognise("T1 Gadovist").evidence
