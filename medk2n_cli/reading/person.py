"""Whose NIfTI image it is, and of which visit, where its name or folder tells: two people's images never make one study."""

from __future__ import annotations

import re

_SUBJECT = re.compile(r"(?i)(?<![a-z0-9])sub-([a-z0-9+]+)")
_SESSION = re.compile(r"(?i)(?<![a-z0-9])ses-([a-z0-9+]+)")
_BRATS = re.compile(r"(?i)(?<![a-z0-9])(brats\d*(?:[-_][a-z]+)+[-_]\d+)(?:-(\d+))?(?![0-9])")


def subject_and_session(label: str) -> tuple[str, str]:
    """`sub-` and `ses-` of a BIDS path, case and visit of a BraTS name; empty where it does not say. The file's name is
    asked before its folders.

    >>> subject_and_session("sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz")
    ('01', '2')
    >>> subject_and_session("BraTS-GLI-00000-000-t1n.nii.gz")
    ('brats-gli-00000', '000')
    """
    backwards = "/".join(reversed(label.replace("\\", "/").split("/")))
    if (case := _BRATS.search(backwards)) is not None:
        return case[1].lower(), case[2] or ""
    subject, session = (found[1].lower() if (found := p.search(backwards)) else "" for p in (_SUBJECT, _SESSION))
    return subject, session
