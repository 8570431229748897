from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.volumes import Volume
from medk2n_cli.reading.scan import load, scan
from tests import dicoms, phantom
from tests.writing.derivations import STAMP, derive

T1, T1C, T2, FLAIR, DWI, ADC = Modality
PLANES = {"axial": np.eye(3), "coronal": np.eye(3)[:, [0, 2, 1]], "sagittal": np.eye(3)[:, [1, 2, 0]]}
OBLIQUE = np.array(sitk.Euler3DTransform((0, 0, 0), 0.35, -0.2, 0.5).GetMatrix()).reshape(3, 3)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: dicom3tools, dcm2niix)")
    return found


def slices(files: list[Path]) -> list[Dataset]:
    return [pydicom.dcmread(f) for f in files if f.name != "synth_report.dcm"]


def complaints(command: str, files: list[Path]) -> list[str]:
    """Lines that start with Error, but for the one on SyntheticData, which Debian's tool is too old to know."""
    done = subprocess.run([tool(command), *map(str, files)], capture_output=True, text=True, errors="replace")
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return [line for line in lines if "(0x0008,0x001c)" not in line]


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Volume]:
    """T1 and T2 as acquired, and a FLAIR made from them."""
    study, out = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("out")
    dicoms.write_study(study, (T1, T2))
    grid = scan([study]).chosen()[T1].grid
    assert grid is not None
    volume = Volume(phantom.volume(FLAIR, grid), grid)
    return study, derive(study, out, FLAIR, volume), volume


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("plane", [*PLANES, "oblique"])
def test_left_stays_left(plane: str, mirrored: bool, backwards: bool, tmp_path: Path) -> None:
    """One bright voxel through reading and writing, seen by a second and a third reader."""
    direction = (OBLIQUE @ PLANES["axial"] if plane == "oblique" else PLANES[plane]).copy()
    direction[:, 2] *= -1 if mirrored else 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * [1.5, 0.9, 4.0], (10, -20, 30)
    grid, spot = Grid((13, 17, 7), affine), (3, 12, 5)
    array = np.full(grid.shape, 10)
    array[spot] = 1000
    where = grid.to_lps(np.array(spot, float))
    order = list(range(7))[:: -1 if backwards else 1]
    dicoms.write_series(tmp_path / "study", array, grid, dicoms.header(T1, generate_uid(), 1), order)
    volume = load(scan([tmp_path / "study"]).chosen())[T1]
    files = derive(tmp_path / "study", tmp_path / "out", FLAIR, volume)[:-1]

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent)))
    for image in (reader.Execute(), nifti_by_dcm2niix(files[0].parent, tmp_path)):
        voxels = sitk.GetArrayFromImage(image)
        k, j, i = np.unravel_index(int(voxels.argmax()), voxels.shape)
        assert voxels.max() == 1000
        assert np.allclose(image.TransformIndexToPhysicalPoint((int(i), int(j), int(k))), where, atol=1e-3)
    numbers = [s.InstanceNumber for s in sorted(slices(files), key=lambda s: float(s.SliceLocation))]
    assert numbers == list(range(1, 8)), "InstanceNumber grows with position"


def nifti_by_dcm2niix(folder: Path, out: Path) -> sitk.Image:
    if shutil.which("dcm2niix") is None:
        return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    subprocess.run(["dcm2niix", "-f", "third", "-o", str(out), str(folder)], check=True, capture_output=True)
    return sitk.ReadImage(str(out / "third.nii"))


def test_the_derived_series_has_the_voxels_and_the_place_of_the_volume(derived: tuple[Path, list[Path], Volume]) -> None:
    _, files, volume = derived
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in files[:-1]])
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image).T, np.rint(volume.array))
    assert np.allclose(image.GetOrigin(), volume.grid.origin, atol=1e-3)
    assert np.allclose(image.GetSpacing(), volume.grid.spacing, atol=1e-3)
    assert np.allclose(np.array(image.GetDirection()).reshape(3, 3), volume.grid.direction, atol=1e-4)


def test_every_object_says_that_it_is_synthetic(derived: tuple[Path, list[Path], Volume]) -> None:
    _, files, _ = derived
    for one in slices(files):
        assert one.SyntheticData == "YES"
        assert list(one.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
        assert one.ContentQualification == "RESEARCH"
        assert one.SeriesDescription == "SYNTH FLAIR (medk2n) NOT FOR DIAGNOSIS"
        assert "not for diagnosis" in one.DerivationDescription
        assert "medk2n-test abababababab from T1 (series 3), T2 (series 4)" in one.DerivationDescription
        assert one.Manufacturer == "medk2n"
    assert all(f.name.startswith("synth_") for f in files)
    assert scan([files[0].parent]).series[0].code == "SYNTHETIC", "and is never an input again"


def test_a_validator_finds_no_error(derived: tuple[Path, list[Path], Volume]) -> None:
    study, files, _ = derived
    for file in (files[0], files[-2], files[-1]):
        assert complaints("dciodvfy", [file]) == []
    assert complaints("dcentvfy", [*files, *study.iterdir()]) == []


def test_the_report_follows_its_template(derived: tuple[Path, list[Path], Volume]) -> None:
    """PixelMed's validator; its rules are more than Java's own limits allow by default."""
    command = shutil.which("DicomSRValidator") or pytest.skip("DicomSRValidator is not installed (Debian: pixelmed-apps)")
    limits = " ".join(f"-Djdk.xml.xpath{name}=0" for name in ("ExprOpLimit", "TotalOpLimit", "ExprGrpLimit"))
    done = subprocess.run(
        [command, str(derived[1][-1])], capture_output=True, text=True, env={**os.environ, "JAVA_TOOL_OPTIONS": limits}
    )
    said = done.stdout + done.stderr
    assert "Found Root Template TID_1500" in said, said[-2000:]
    assert "Root Template Validation Complete" in said
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_it_joins_the_study_and_refers_to_the_slices_it_was_made_from(derived: tuple[Path, list[Path], Volume]) -> None:
    study, files, _ = derived
    acquired = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, study.iterdir())}
    one = slices(files)[10]
    donor = next(iter(acquired.values()))
    for name in ("StudyInstanceUID", "PatientName", "PatientID", "FrameOfReferenceUID"):
        assert one[name].value == donor[name].value
    assert {s.SeriesInstanceUID for s in one.ReferencedSeriesSequence} == {d.SeriesInstanceUID for d in acquired.values()}
    for item in one.SourceImageSequence:
        source = acquired[item.ReferencedSOPInstanceUID]
        assert float(source.ImagePositionPatient[2]) == pytest.approx(float(one.ImagePositionPatient[2]), abs=1e-3)
        assert item.SpatialLocationsPreserved == "YES"
    assert len(one.SourceImageSequence) == 2
    assert one.SeriesNumber == 9004


def test_a_source_that_the_gate_refused_is_not_cited(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1, T1C, T2), phantom.axial((4, 4, 8)))
    volume = load(scan([study]).chosen())[T1]
    files = derive(study, tmp_path / "o", FLAIR, volume)
    cited = {r.SeriesInstanceUID for r in slices(files)[0].ReferencedSeriesSequence}
    refused = next(d.SeriesInstanceUID for d in map(pydicom.dcmread, study.iterdir()) if d.SeriesNumber == 5)
    assert len(cited) == 2
    assert refused not in cited


def test_nothing_is_copied_that_is_not_on_the_list(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        one.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "LO", "secret")
        one.OperatorsName, one.InstitutionName, one.ReceiveCoilName, one.ImageComments = "Nurse^Ann", "Clinic", "HEAD32", "note"
        one.ContrastBolusAgent, one.InversionTime, one.PatientComments = "none", "1200", "married to"
        one.save_as(file)
    files = derive(study, tmp_path / "o", T2, load(scan([study]).chosen())[T1])
    for one in slices(files):
        assert not [e for e in one if e.tag.is_private]
        for name in (
            "OperatorsName",
            "InstitutionName",
            "ReceiveCoilName",
            "ContrastBolusAgent",
            "InversionTime",
            "PatientComments",
        ):
            assert name not in one
        assert one.ImageComments == "SYNTHETIC IMAGE, NOT FOR DIAGNOSIS"


def test_a_uid_never_names_two_contents(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    volume = load(scan([study]).chosen())[T1]
    other = volume.array.copy()
    other[5, 5, 5] += 3
    made = {
        "same": derive(study, tmp_path / "a", FLAIR, volume),
        "again": derive(study, tmp_path / "b", FLAIR, volume),
        "pixels": derive(study, tmp_path / "c", FLAIR, Volume(other, volume.grid)),
        "options": derive(study, tmp_path / "d", FLAIR, volume, options='{"register": false}'),
        "target": derive(study, tmp_path / "e", T2, volume),
    }
    uids = {name: slices(files)[0].SOPInstanceUID for name, files in made.items()}
    assert uids["same"] == uids["again"]
    assert len(set(uids.values())) == 4
    assert [f.read_bytes() for f in made["same"][:-1]] == [f.read_bytes() for f in made["again"][:-1]]
    everything = [d.SOPInstanceUID for d in slices(made["same"])]
    assert len(set(everything)) == len(everything)


def lie(one: Dataset, how: str) -> None:
    """What scanners and PACS really write."""
    with pydicom.config.disable_value_validation():
        if how == "empty timing":
            one.PatientBirthDate, one.StudyDate, one.AccessionNumber = "", "", ""
        elif how == "wrong values":
            one.PatientBirthDate, one.PatientSex, one.PatientAge, one.StudyTime = "31.12.1960", "female", "60", "25:61"
        elif how == "17 characters":
            one.PatientWeight = "82.12345678901234567"
            one.ImagePositionPatient = [f"{float(v):.14f}" for v in one.ImagePositionPatient]
        elif how == "too long":
            one.AccessionNumber, one.StudyID, one.StudyDescription = "9" * 30, "S" * 30, "d" * 90
        elif how == "non-ASCII":
            one.SpecificCharacterSet, one.PatientName = "ISO_IR 100", "Müller^Jürgen"
        elif how == "undeclared":
            one.SpecificCharacterSet, one.PatientName = "ISO_IR 192", "Ünal^Çiğdem"
        elif how == "japanese":
            one.SpecificCharacterSet, one.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"
        elif how == "no frame":
            del one.FrameOfReferenceUID
        elif how == "wrong VR":
            one["PatientID"] = pydicom.DataElement(0x00100020, "UN", b"P-123 ")


LIES = (
    "empty timing",
    "wrong values",
    "17 characters",
    "too long",
    "non-ASCII",
    "undeclared",
    "japanese",
    "no frame",
    "wrong VR",
)


@pytest.mark.parametrize("how", LIES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_donor_that_lies_gives_a_valid_series(how: str, tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        lie(one, how)
        one.save_as(file)
    files = derive(study, tmp_path / "o", FLAIR, load(scan([study]).chosen())[T1])
    (first,) = slices(files)[:1]
    assert all(len(str(v)) <= 16 for v in (*first.ImagePositionPatient, *first.ImageOrientationPatient, *first.PixelSpacing))
    if how in ("non-ASCII", "undeclared", "japanese"):
        acquired = pydicom.dcmread(next(study.iterdir()))
        assert str(first.PatientName) == str(acquired.PatientName)
        assert len(str(first.PatientName)) > 5
    if how == "wrong VR":
        assert first.PatientID == "P-123"
    if how == "too long":
        assert (first.AccessionNumber, first.StudyID) == ("", ""), "an identifier is never cut: it could be somebody else's"
    for file in (files[0], files[-1]):
        assert complaints("dciodvfy", [file]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientID", "123\\456"), ("PatientID", "9" * 80), ("PatientName", "Doe^J\\Smith"), ("PatientName", "x" * 70 + "^Y")],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_patient_who_cannot_be_named_to_the_letter_is_not_named_otherwise(name: str, value: str, tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            setattr(one, name, value)
            one.save_as(file)
    volume = load(scan([study]).chosen())[T1]
    with pytest.raises(OutputError) as failure:
        derive(study, tmp_path / "o", FLAIR, volume)
    assert failure.value.code == "PATIENT_IDENTITY"
    assert "--deid" in failure.value.next_step
    assert derive(study, tmp_path / "p", FLAIR, volume, deidentify=True)


def test_a_corrected_patient_gets_objects_of_its_own(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    volume = load(scan([study]).chosen())[T1]
    before = slices(derive(study, tmp_path / "a", FLAIR, volume))[0]
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        one.PatientID = "P-124"
        one.save_as(file)
    after = slices(derive(study, tmp_path / "b", FLAIR, volume))[0]
    assert after.SOPInstanceUID != before.SOPInstanceUID, "a PACS that has the first would keep its patient"


def test_a_study_without_a_uid_gets_no_dicom_and_is_told_why(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        one.StudyInstanceUID = ""
        one.save_as(file)
    volume = load(scan([study]).chosen())[T1]
    with pytest.raises(OutputError) as failure:
        derive(study, tmp_path / "o", FLAIR, volume)
    assert failure.value.code == "STUDY_UID"


def test_deidentified_objects_hold_nothing_of_the_patient_and_agree_among_themselves(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1, T2), phantom.axial((4, 4, 8)))
    for file in study.iterdir():
        one = pydicom.dcmread(file)
        one.PatientBirthDate, one.StudyDate, one.AccessionNumber, one.DeviceSerialNumber = (
            "19610203",
            "20240506",
            "ACC77",
            "SN-4711",
        )
        one.ReferringPhysicianName, one.AcquisitionDate, one.StudyDescription = "House^G", "20240506", "Jane again"
        one.save_as(file)
    acquired = pydicom.dcmread(next(study.iterdir()))
    chosen = load(scan([study]).chosen())
    files = derive(study, tmp_path / "o", FLAIR, chosen[T1], deidentify=True)
    more = derive(study, tmp_path / "p", ADC, chosen[T1], deidentify=True)
    secrets = ("Doe", "Jane", "P-123", "19610203", "20240506", "ACC77", "House", "SN-4711", acquired.StudyInstanceUID)
    uids = [acquired[n].value for n in ("FrameOfReferenceUID", "SeriesInstanceUID", "SOPInstanceUID")]
    for file in files:
        content = file.read_bytes()
        for secret in (*secrets, *uids):
            assert secret.encode() not in content, f"{secret} in {file.name}"
    assert len({pydicom.dcmread(f).StudyInstanceUID for f in files + more}) == 1
    assert slices(files)[0].PatientIdentityRemoved == "YES"
    for file in (files[0], files[-1]):
        assert complaints("dciodvfy", [file]) == []


@pytest.mark.parametrize("deidentify", [False, True])
def test_a_maker_with_an_umlaut_keeps_it(tmp_path: Path, deidentify: bool) -> None:
    grid = phantom.axial((5, 5, 12))
    study = dicoms.write_study(tmp_path / "s", (T1, T2), grid)
    for file in study.iterdir():
        ds = pydicom.dcmread(file)
        ds.SpecificCharacterSet, ds.Manufacturer = "ISO_IR 100", "Müller Geräte"
        ds.save_as(file)
    volume = Volume(phantom.volume(FLAIR, grid), grid)
    written = derive(study, tmp_path / "o", FLAIR, volume, deidentify=deidentify)
    made = pydicom.dcmread(next(f for f in written if f.suffix == ".dcm"))
    assert made.ContributingEquipmentSequence[1].Manufacturer == "Müller Geräte"


def test_its_number_is_free_in_the_study(tmp_path: Path) -> None:
    grid = phantom.axial((4, 4, 8))
    uid = generate_uid()
    for modality, number in ((T1, 9004), (T2, 7)):
        dicoms.write_series(tmp_path / "s", phantom.volume(modality, grid), grid, dicoms.header(modality, uid, number))
    files = derive(tmp_path / "s", tmp_path / "o", FLAIR, load(scan([tmp_path / "s"]).chosen())[T1])
    assert {d.SeriesNumber for d in slices(files)} == {9104}
    assert pydicom.dcmread(files[-1]).SeriesNumber == 9199


def test_an_isotropic_result_cites_series_and_no_slices(tmp_path: Path) -> None:
    study = dicoms.write_study(tmp_path / "s", (T1,), phantom.axial((4, 4, 8)))
    grid = phantom.axial((3, 3, 3))
    files = derive(study, tmp_path / "o", FLAIR, Volume(phantom.volume(FLAIR, grid), grid))
    for one in slices(files):
        assert "SourceImageSequence" not in one
        assert len(one.ReferencedSeriesSequence) == 1


def test_a_real_enhanced_series_can_be_a_donor(shared_dicom: Path, tmp_path: Path) -> None:
    """Philips, one file of many frames: slices are cited by frame number."""
    found = [s for s in scan([shared_dicom / "enhanced_philips_xa10"]).series if s.grid and len(set(s.files)) == 1]
    assert found
    one = found[0]
    shutil.copy(one.files[0], tmp_path / "enhanced")
    study = scan([tmp_path], {T1: one.names[0]})
    from medk2n_cli.writing.dicom_donor import read_donor

    donor = read_donor(study.chosen()[T1])
    assert [i.frame for i in donor.instances] == [f + 1 for f in one.frames]
    assert len({i.sop_instance for i in donor.instances}) == 1
    assert donor.header.StudyInstanceUID == study.chosen()[T1].study


def test_an_enhanced_study_gets_a_classic_series(tmp_path: Path) -> None:
    grid = phantom.axial((4, 4, 8))
    dicoms.write_enhanced(tmp_path / "s" / "one", phantom.volume(T1, grid), grid, dicoms.header(T1, generate_uid(), 3))
    files = derive(tmp_path / "s", tmp_path / "o", FLAIR, load(scan([tmp_path / "s"]).chosen())[T1])
    assert [d.SourceImageSequence[0].ReferencedFrameNumber for d in slices(files)] == list(range(1, grid.shape[2] + 1))
    for file in (files[0], files[-1]):
        assert complaints("dciodvfy", [file]) == []


def test_the_report_for_machines_names_weights_gates_and_algorithm(derived: tuple[Path, list[Path], Volume]) -> None:
    from highdicom.sr import srread

    report = srread(derived[1][-1])
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.SyntheticData == "YES"
    (group,) = report.content.get_image_measurement_groups()
    measured = {m.name.meaning: float(m.value) for m in group.get_measurements()}
    assert measured["Predicted SSIM"] == pytest.approx(0.8123)
    assert measured["Brightness multiplied by"] == pytest.approx(0.91)
    assert measured["Fusion weight, T1"] == pytest.approx(0.6)
    assert measured["Gate threshold, T2"] == pytest.approx(0.5)
    assert measured["Gate (1 open, 0 closed), T2"] == 1
    text = report.to_json()
    assert STAMP.sha256 in text
    assert "Artificial Intelligence" in text
    cited = {
        i.ReferencedSOPInstanceUID
        for s in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for i in s.ReferencedSOPSequence
    }
    acquired = {pydicom.dcmread(f).SOPInstanceUID for f in derived[0].iterdir()}
    assert acquired <= cited


def test_the_voxels_read_back_with_our_own_reader(derived: tuple[Path, list[Path], Volume]) -> None:
    from medk2n_cli.reading.dicom import load_slices
    from medk2n_cli.reading.dicom_headers import read_slices

    _, files, volume = derived
    back = load_slices("x", [s for f in files[:-1] for s in read_slices(f)])
    assert np.array_equal(back.array, np.rint(volume.array))
    assert back.grid.same_place(volume.grid)
