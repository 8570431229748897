from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from medk2n_cli.core.errors import StudyError
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series
from medk2n_cli.reading import dicom
from medk2n_cli.reading.scan import load, scan
from tests import dicoms, phantom

T1, T1C, T2, FLAIR, DWI, ADC = Modality


def only(folder: Path) -> Series:
    (series,) = scan([folder]).series
    return series


def rewrite(folder: Path, change: object) -> None:
    """`change(dataset, number)` on every file, in order of the file names."""
    for number, file in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(file)
        change(ds, number)  # type: ignore[operator]
        ds.save_as(file)


def test_a_scanners_study_is_read_where_it_was_acquired(tmp_path: Path) -> None:
    grid = phantom.axial()
    study = scan([dicoms.write_study(tmp_path, (T1, T2, FLAIR))])
    chosen = study.chosen()
    assert list(chosen) == [T1, T2, FLAIR]
    assert [s.label for s in chosen.values()] == ["3 AX T1", "4 AX T2 TSE", "5 AX T2 FLAIR"]
    for modality, volume in load(chosen).items():
        assert volume.grid.same_place(Grid(grid.shape, grid.affine))
        assert np.array_equal(volume.array, phantom.volume(modality, grid).astype(np.uint16))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    backwards=st.booleans(),
    mirrored=st.booleans(),
    spot=st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 4)),
)
def test_a_bright_voxel_is_found_where_it_was_put(
    tmp_path: Path, angles: tuple[float, float, float], backwards: bool, mirrored: bool, spot: tuple[int, int, int]
) -> None:
    rotation = np.array(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix()).reshape(3, 3)
    rotation[:, 2] *= -1 if mirrored else 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * [1.5, 0.9, 4.0], (10, -20, 30)
    grid = Grid((7, 9, 5), affine)
    array = np.full(grid.shape, 10)
    array[spot] = 1000
    folder = tmp_path / "one"
    shutil.rmtree(folder, ignore_errors=True)
    order = list(range(5))[:: -1 if backwards else 1]
    dicoms.write_series(folder, array, grid, dicoms.header(T1, generate_uid(), 1), order)
    volume = dicom.load_volume(only(folder))
    found = np.unravel_index(int(np.argmax(volume.array)), volume.array.shape)
    assert np.allclose(volume.grid.to_lps(np.array(found, float)), grid.to_lps(np.array(spot, float)), atol=1e-3)
    assert np.linalg.det(volume.grid.direction) > 0, "slices are stacked along the normal"


def test_a_second_reader_agrees(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T2,), phantom.around(np.eye(3)[:, [1, 2, 0]], (1.2, 1.0, 5.0)))
    series = only(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in series.files])
    image = reader.Execute()
    assert series.grid is not None
    assert np.allclose(series.grid.origin, image.GetOrigin(), atol=1e-3)
    assert np.allclose(series.grid.direction.ravel(), image.GetDirection(), atol=1e-4)
    assert np.allclose(series.grid.spacing, image.GetSpacing(), atol=1e-3)
    assert np.array_equal(dicom.load_volume(series).array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))


def test_a_missing_slice_is_a_gap_and_not_a_shorter_head(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))
    middle = sorted(folder.iterdir(), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))[5]
    middle.unlink()
    assert only(folder).code == "SLICE_GAP"
    assert "between its slices 5 and 6" in str(only(folder).unused)


def test_copies_are_dropped_and_said_and_other_images_at_the_same_place_refused(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path / "a", (T1,))
    shutil.copy(next(iter(folder.iterdir())), folder / "again")
    series = only(folder)
    assert series.unused is None
    assert series.notes == ("1 identical copies of slices were left out",)
    ds = pydicom.dcmread(folder / "again")
    ds.SOPInstanceUID = generate_uid()
    ds.save_as(folder / "again")
    assert only(folder).code == "DUPLICATE_SLICES"


def test_two_orientations_in_one_series_are_two_volumes_or_a_refusal(tmp_path: Path) -> None:
    base = dicoms.header(T1, generate_uid(), 1)
    for name, axes in (("axial", [0, 1, 2]), ("sagittal", [1, 2, 0])):
        grid = phantom.around(np.eye(3)[:, axes], (4.0, 4.0, 12.0))
        dicoms.write_series(tmp_path / name, phantom.volume(T1, grid), grid, base)
    assert [s.unused for s in scan([tmp_path]).series] == [None, None]
    for folder in (tmp_path / "axial", tmp_path / "sagittal"):
        for file in sorted(folder.iterdir())[2:]:
            file.unlink()
    assert only(tmp_path).code == "MIXED_ORIENTATION"


def test_slices_stacked_askew_are_refused(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))

    def tilt(ds: pydicom.Dataset, _: int) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.2 * z, z]

    rewrite(folder, tilt)
    assert only(folder).code == "GANTRY_TILT"
    assert "11.3 degrees" in str(only(folder).unused)


def test_slices_slightly_askew_are_squared_up_and_that_is_said(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))

    def tilt(ds: pydicom.Dataset, _: int) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.005 * z, z]

    before = only(folder).own_grid
    rewrite(folder, tilt)
    series = only(folder)
    assert series.unused is None
    assert "squared up" in series.notes[0]
    assert np.abs(series.own_grid.direction.T @ series.own_grid.direction - np.eye(3)).max() < 1e-6
    assert np.abs(series.own_grid.centre - before.centre).max() < 0.5


def test_a_long_stack_that_squaring_up_would_move_is_refused(tmp_path: Path) -> None:
    grid = phantom.around(np.eye(3), (4.0, 4.0, 1.0))
    folder = tmp_path / "long"
    dicoms.write_series(folder, phantom.volume(T1, grid), grid, dicoms.header(T1, generate_uid(), 1))

    def tilt(ds: pydicom.Dataset, _: int) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.009 * z, z]

    rewrite(folder, tilt)
    assert only(folder).code == "GANTRY_TILT"


def test_inverted_greys_are_refused_and_never_read_as_an_image(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))

    def invert(ds: pydicom.Dataset, _: int) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"

    rewrite(folder, invert)
    assert only(folder).code == "INVERTED_GREYS"


def test_slices_with_pixels_of_two_sizes_are_refused(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))

    def widen(ds: pydicom.Dataset, number: int) -> None:
        if number == 3:
            ds.PixelSpacing = [1.1 * v for v in ds.PixelSpacing]

    rewrite(folder, widen)
    assert only(folder).code == "MIXED_SPACING"


def test_slices_of_two_frames_of_reference_name_none_and_that_is_said(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))

    def rename(ds: pydicom.Dataset, number: int) -> None:
        if number < 3:
            ds.FrameOfReferenceUID = "1.2.3.4"

    rewrite(folder, rename)
    assert only(folder).own_grid.frame is None
    assert "2 frames of reference" in only(folder).notes[0]


def test_echoes_of_one_series_are_told_apart(tmp_path: Path) -> None:
    base = dicoms.header(T2, generate_uid(), 7)
    grid = phantom.axial()
    for name, echo in (("a", 30.0), ("b", 98.0)):
        base.EchoTime, base.SeriesDescription = echo, "dual echo"
        dicoms.write_series(tmp_path / name, phantom.volume(T2, grid), grid, base)
    found = {s.label: (s.modality, s.code) for s in scan([tmp_path]).series}
    assert found == {"7 dual echo TE 30": (None, "UNKNOWN_CONTRAST"), "7 dual echo TE 98": (T2, "")}


def test_time_points_are_a_series_of_their_own_and_none_of_ours(tmp_path: Path) -> None:
    base = dicoms.header(T1, generate_uid(), 8)
    grid = phantom.axial((8.0, 8.0, 20.0))
    for time in range(4):
        base.TemporalPositionIdentifier = time
        dicoms.write_series(tmp_path / str(time), phantom.volume(T1, grid), grid, base)
    assert {s.code for s in scan([tmp_path]).series} == {"NOT_A_CONTRAST"}


def test_two_patients_and_two_studies_are_questions(tmp_path: Path) -> None:
    first = dicoms.write_study(tmp_path / "a", (T1,), study="1.2.3")
    dicoms.write_study(tmp_path / "b", (T2,), study="1.2.4")
    with pytest.raises(StudyError) as question:
        scan([tmp_path]).chosen()
    assert question.value.code == "SEVERAL_STUDIES"
    assert "--study 1.2.3" in question.value.next_step
    assert list(scan([tmp_path], study="1.2.4").chosen()) == [T2]
    rewrite(first, lambda ds, _: setattr(ds, "PatientID", "P-999"))
    with pytest.raises(StudyError) as question:
        scan([tmp_path]).chosen()
    assert question.value.code == "SEVERAL_PATIENTS"
    assert "P-999" not in question.value.problem


def test_a_series_can_be_named_by_number_uid_and_description(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1, T2))
    rewrite(folder, lambda ds, _: setattr(ds, "SeriesDescription", f"scan {ds.SeriesNumber}"))
    uid = next(s.names[2] for s in scan([folder]).series if s.number == 4)
    for name in ("4", "scan 4", "*an 4", uid, "4 scan 4"):
        assert scan([folder], {FLAIR: name}).chosen()[FLAIR].number == 4
    with pytest.raises(StudyError):
        scan([folder], {FLAIR: "scan*"})


def test_a_synthetic_series_is_never_an_input(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))
    rewrite(folder, lambda ds, _: setattr(ds, "SyntheticData", "YES"))
    assert only(folder).code == "SYNTHETIC"
    with pytest.raises(StudyError):
        scan([folder], {T1: "3"})


def test_files_without_pixels_and_cut_files_are_refused_when_read(tmp_path: Path) -> None:
    for code, change in (
        ("MISSING_PIXELS", lambda ds, n: ds.__delattr__("PixelData") if n == 2 else None),
        ("TRUNCATED", lambda ds, n: setattr(ds, "PixelData", ds.PixelData[:100]) if n == 2 else None),
    ):
        folder = dicoms.write_study(tmp_path / code, (T1,))
        rewrite(folder, change)
        with pytest.raises(StudyError) as refusal:
            load(scan([folder]).chosen())
        assert refusal.value.code == code
        assert "3 AX T1" in refusal.value.problem


def test_rescaling_follows_the_header(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))
    plain = dicom.load_volume(only(folder)).array

    def rescale(ds: pydicom.Dataset, _: int) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = 2, -3

    rewrite(folder, rescale)
    assert np.allclose(dicom.load_volume(only(folder)).array, plain * 2 - 3)


def test_junk_beside_a_study_is_listed_or_ignored_and_never_in_the_way(tmp_path: Path) -> None:
    folder = dicoms.write_study(tmp_path, (T1,))
    (folder / "notes.txt").write_text("patient moved")
    (folder / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    (folder / "empty").write_bytes(b"")
    series = scan([folder]).series
    assert list(scan([folder]).chosen()) == [T1]
    assert [s.label for s in series if s.code == "NOT_AN_IMAGE"] == ["broken"]


# Folder of data/dicom -> codes of its series (empty: a volume), worked out with dcmdump and dcm2niix.
REAL = {
    "multivendor/anatomical/001": [""],
    "multivendor/ge/anatomical/001": [""],
    "multivendor/ge/anatomical/001_single_slice": ["TOO_FEW_SLICES"],
    "multivendor/ge/dti/002": ["DUPLICATE_SLICES"],  # several directions, none of them named in its headers
    "multivendor/generic/anatomical/001": [""],
    "multivendor/generic/anatomical/002_non_isotropic": ["UNKNOWN_CONTRAST"],
    "multivendor/generic/compressed/001": [""],
    "multivendor/generic/compressed_j2k/001": [""],
    "multivendor/generic/compressed_jpeg/001": [""],
    "multivendor/generic/compressed_jpegls/001": [""],
    "multivendor/generic/compressed_rle/001": [""],
    "multivendor/generic/rgb/001": ["NOT_AN_IMAGE"],
    "multivendor/hitachi/anatomical/001": ["UNKNOWN_CONTRAST"],
    "multivendor/hyperfine/anatomical/001": [""],
    "multivendor/philips/anatomical/001": [""],
    "multivendor/philips/dti/001": ["NOT_A_CONTRAST", "DUPLICATE_SLICES"],
    "multivendor/philips_enhanced/anatomical/001": ["UNKNOWN_CONTRAST"],
    "multivendor/siemens/anatomical/001": [""],
    "multivendor/siemens/anatomical/001_implicit": [""],
    "multivendor/siemens_multiframe/anatomical/001": ["UNKNOWN_CONTRAST"],
    "multivendor/failing/gantrytilting/001": ["NOT_AN_IMAGE"],  # the broken ones are CT, but for two
    "multivendor/failing/notavolume/001": ["NOT_AN_IMAGE"],
    "multivendor/failing/slicecount/001": ["TOO_FEW_SLICES"],
    "multivendor/failing/sliceincrement/001": ["NOT_AN_IMAGE"],
    "multivendor/failing/sliceincrement/002": ["NOT_AN_IMAGE"],
    "multivendor/failing/sliceorientation/001": ["MIXED_ORIENTATION"],
    "enhanced_philips_xa10/Philips": ["NOT_A_CONTRAST", "NOT_A_CONTRAST"],
    "enhanced_philips_xa10/Siemens/XA10": ["NOT_A_CONTRAST"] * 4,
    "uih_dti": ["NO_POSITION"],
}


@pytest.mark.parametrize("folder", REAL)
def test_real_series_are_read_or_refused_with_the_right_code(folder: str, shared_dicom: Path) -> None:
    series = scan([shared_dicom / folder]).series
    assert [s.code for s in series] == REAL[folder]
    for one in series:
        if one.grid is not None:
            volume = dicom.load_volume(one)
            assert volume.array.shape == one.grid.shape
            assert volume.array.max() > volume.array.min()


@pytest.mark.parametrize("folder", [f for f, codes in REAL.items() if codes == [""]])
def test_real_series_lie_where_a_second_reader_puts_them(folder: str, shared_dicom: Path) -> None:
    series = only(shared_dicom / folder)
    assert series.grid is not None
    if len(set(series.files)) == 1:
        image = sitk.ReadImage(str(series.files[0]))
        image = image[:, :, :, 0] if image.GetDimension() == 4 else image
    else:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(f) for f in series.files])
        image = reader.Execute()
    assert np.allclose(series.grid.origin, image.GetOrigin(), atol=1e-3)
    assert np.allclose(series.grid.direction.ravel(), image.GetDirection(), atol=1e-3)
    assert np.allclose(series.grid.spacing, image.GetSpacing(), atol=1e-2)
    assert np.allclose(dicom.load_volume(series).array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))


@pytest.mark.parametrize(
    "folder", [f for f, codes in REAL.items() if {"", "UNKNOWN_CONTRAST"} & set(codes) and "jpegls" not in f]
)
def test_real_series_agree_with_dcm2niix(folder: str, shared_dicom: Path, tmp_path: Path) -> None:
    """Voxel by voxel: where ours is in the patient, dcm2niix has the same number (Debian's reads no JPEG-LS)."""
    command = shutil.which("dcm2niix") or pytest.skip("dcm2niix is not installed (Debian: dcm2niix)")
    series = only(shared_dicom / folder)
    assert series.grid is not None
    for file in dict.fromkeys(series.files):
        shutil.copy(file, tmp_path / f"{file.stem}_{len(list(tmp_path.iterdir()))}")
    # -p n: scaled as the header says, not by Philips's private precise values
    subprocess.run([command, "-p", "n", "-f", "oracle", "-o", str(tmp_path), str(tmp_path)], check=True, capture_output=True)
    made = sorted(tmp_path.glob("*.nii"))
    assert len(made) == 1
    image = sitk.ReadImage(str(made[0]))
    theirs, ours = sitk.GetArrayFromImage(image), dicom.load_volume(series)
    rng = np.random.default_rng(0)
    for _ in range(50):
        index = rng.integers(0, ours.grid.shape)
        place = ours.grid.to_lps(index.astype(float))
        at = np.array(image.TransformPhysicalPointToContinuousIndex(place.tolist()))
        assert np.abs(at - np.rint(at)).max() < 0.02, "the grids agree"
        i, j, k = (int(v) for v in np.rint(at))
        assert theirs[k, j, i] == pytest.approx(ours.array[tuple(index)], rel=1e-3, abs=1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read the Linux way")
def test_many_frames_are_never_in_memory_twice(tmp_path: Path) -> None:
    grid = Grid((512, 512, 120), np.diag([0.5, 0.5, 1.0, 1.0]))
    array = np.random.default_rng(0).integers(0, 2000, grid.shape).astype(np.uint16)
    file = dicoms.write_enhanced(tmp_path / "enhanced", array, grid, dicoms.header(T1, generate_uid(), 3))
    code = (
        "import resource, sys; from pathlib import Path; from medk2n_cli.reading.scan import load, scan; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024; "
        "chosen = scan([Path(sys.argv[1])]).chosen(); before = peak(); volume = load(chosen); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 120 + 30, "MB: the voxels as float32 are 120"
