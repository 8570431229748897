"""A donor without its patient: what is left after PS3.15 E.1.1, Basic Application Level Confidentiality Profile.

The derived series is built from an allow-list, so only what the list would lend has to go; UIDs are replaced by ones that
agree among all results of one study, and nothing refers back to the acquired objects.
"""

from __future__ import annotations

from dataclasses import replace

from pydicom.dataset import Dataset

from medk2n_cli.writing.dicom_donor import Donor, codes, derived_uid, readable

_EMPTY = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID")
_KEPT = ("PatientPosition", "BodyPartExamined", "LossyImageCompression", "LossyImageCompressionRatio")


def deidentified(donor: Donor) -> Donor:
    """The same place and voxels, nobody's: new study and frame UIDs, no name, dates, numbers or device serial."""
    old, header = donor.header, Dataset()
    for name in _EMPTY:
        setattr(header, name, "")
    for name in _KEPT:
        if name in old:
            header[name] = old[name]
    header.StudyInstanceUID = derived_uid("deidentified", old.StudyInstanceUID)
    header.FrameOfReferenceUID = derived_uid("deidentified", old.FrameOfReferenceUID)
    header.PatientID = f"DEID-{header.StudyInstanceUID[-10:]}"
    header.PatientName = f"{header.PatientID}^"
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "medk2n allow-list, PS3.15 Basic Profile"
    header.DeidentificationMethodCodeSequence = [codes("113100", "DCM", "Basic Application Confidentiality Profile")]
    header.RecognizableVisualFeatures = "YES"  # a head shows a face: the profile does not clean it
    maker, model, _, software = donor.equipment
    equipment = (maker, model, "", software)
    header = readable(header, equipment)
    return replace(donor, header=header, uid=derived_uid("deidentified", donor.uid), instances=(), equipment=equipment)
