from __future__ import annotations

import pytest

from medk2n_cli.reading.person import subject_and_session


@pytest.mark.parametrize(
    ("label", "person"),
    [
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", ("01", "2")),
        ("sub-02_FLAIR.nii.gz", ("02", "")),
        ("sub-03/anat/T1.nii.gz", ("03", "")),
        ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz", ("brats-gli-00000", "000")),
        ("BraTS20_Training_001_t1.nii.gz", ("brats20_training_001", "")),
        ("T1.nii.gz", ("", "")),
        ("subtraction/T1_sub.nii.gz", ("", "")),
    ],
)
def test_bids_and_brats_names_tell_whose_image_it_is(label: str, person: tuple[str, str]) -> None:
    assert subject_and_session(label) == person
