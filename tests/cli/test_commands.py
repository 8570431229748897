"""What users and scripts meet: exit codes, one line of problem and one of next step, the JSON contract, files."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medk2n_cli.core.modality import Modality
from tests import phantom
from tests.conftest import TINY


def medk2n(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "medk2n_cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
    )


def failed(done: subprocess.CompletedProcess[str], exit_code: int) -> dict[str, str]:
    """The JSON error of a failed command, after checking that people are told as well."""
    assert done.returncode == exit_code, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"schema", "status", "exit_code", "data", "errors"}
    assert (answer["status"], answer["exit_code"], answer["data"]) == ("error", exit_code, None)
    error = answer["errors"][0]
    assert set(error) == {"code", "problem", "next_step"}
    assert "Traceback" not in done.stderr
    assert f"error: {error['problem']}\nnext:  {error['next_step']}" in done.stderr
    return error


@pytest.fixture(scope="module")
def result(head_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("out")
    done = medk2n("synthesize", "--in", head_study, "--want", "FLAIR,T1C", "--out", out, "--weights", TINY, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_a_result_is_complete_and_its_manifest_true(result: tuple[Path, dict[str, object]], head_study: Path) -> None:
    out, answer = result
    assert answer["status"] == "ok"
    names = {
        "synth_FLAIR.nii.gz",
        "synth_FLAIR.json",
        "synth_T1C.nii.gz",
        "synth_T1C.json",
        "report.json",
        "fusion_weights.csv",
        "result.json",
        "report.html",
        "preview/synth_FLAIR.png",
        "preview/synth_T1C.png",
    }
    assert {f.relative_to(out).as_posix() for f in out.rglob("*") if f.is_file()} == names
    manifest = json.loads((out / "result.json").read_text())
    assert manifest["schema"] == "medk2n.result/1"
    for entry in manifest["outputs"]:
        assert hashlib.sha256((out / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    for entry in manifest["inputs"]:
        assert hashlib.sha256((head_study / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert {e["file"] for e in manifest["outputs"]} == names - {"result.json"}
    assert manifest["device"]["name"] == "cpu"
    assert set(manifest["seconds"]) == {"scan", "load", "align", "pack", "run", "unpack"}
    assert manifest["peak_memory_mb"] > 10
    assert (out / "result.json").stat().st_mtime_ns >= max(f.stat().st_mtime_ns for f in out.rglob("*") if f.is_file())


def test_a_viewer_is_written_linked_and_listed_where_it_is_asked_for(
    result: tuple[Path, dict[str, object]], head_study: Path, tmp_path: Path
) -> None:
    words = ("--in", head_study, "--want", "FLAIR", "--out", tmp_path / "o", "--weights", TINY)
    done = medk2n("synthesize", *words, "--viewer")
    assert done.returncode == 0, done.stderr
    assert "viewer.html" in done.stdout
    assert 'href="viewer.html"' in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    manifest = json.loads((tmp_path / "o" / "result.json").read_text())
    assert "viewer.html" in {e["file"] for e in manifest["outputs"]}
    assert manifest["output"]["viewer"] is True
    assert "viewer" not in json.loads((result[0] / "result.json").read_text())["output"], "as in manifests before there was one"
    assert medk2n("synthesize", *words, "--overwrite", "--quiet").returncode == 0
    assert not (tmp_path / "o" / "viewer.html").exists()


def test_the_report_keeps_its_schema(result: tuple[Path, dict[str, object]]) -> None:
    report = json.loads((result[0] / "report.json").read_text())
    assert list(report) == ["schema", "synthetic", "model", "inputs", "targets", "warnings"]
    assert report["schema"] == "medk2n.fusion-report/1"
    assert report["synthetic"] is True
    keys = {"modality", "source", "evidence", "moved_mm", "rotated_deg", "registration", "normalisation", "identity"}
    assert all(set(i) == keys for i in report["inputs"])
    for target in report["targets"]:
        assert {"modality", "quality", "expected_error", "units", "identity", "chosen_head", "level", "warnings"} <= set(target)
        assert "contributions" in target
        assert sum(c["share"] for c in target["contributions"]) == pytest.approx(1, abs=1e-3)
        assert sum(c["key"] for c in target["contributions"]) == 1
        for c in target["contributions"]:
            assert c["gate"] in (0, 1)
            assert len(c["per_slice"]["w_global"]) == len(target["per_slice"]["quality"])
            assert c["gate"] or c["share"] == 0
    warned = {t["modality"]: " ".join(t["warnings"]) for t in report["targets"]}
    assert "enhancement cannot be deduced" in warned["T1C"]


def test_one_csv_row_per_target_and_source(result: tuple[Path, dict[str, object]]) -> None:
    with (result[0] / "fusion_weights.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["target"], r["source"]) for r in rows] == [("T1C", "T1"), ("T1C", "T2"), ("FLAIR", "T1"), ("FLAIR", "T2")]


def test_volumes_lie_on_the_acquired_grid_and_are_marked(result: tuple[Path, dict[str, object]], head_study: Path) -> None:
    made, acquired = (sitk.ReadImage(str(f)) for f in (result[0] / "synth_FLAIR.nii.gz", head_study / "T1.nii.gz"))
    assert made.GetSize() == acquired.GetSize()
    assert np.allclose(made.GetOrigin(), acquired.GetOrigin(), atol=1e-3)
    assert np.allclose(made.GetDirection(), acquired.GetDirection(), atol=1e-4)
    sidecar = json.loads((result[0] / "synth_FLAIR.json").read_text())
    assert sidecar["synthetic"] is True
    assert 0.5 <= sidecar["level"] <= 2
    assert sidecar["weights"]["sha256"] == hashlib.sha256(TINY.read_bytes()).hexdigest()


def test_a_synthetic_result_is_never_an_input_again(result: tuple[Path, dict[str, object]]) -> None:
    done = medk2n("scan", result[0], "--json")
    assert done.returncode == 0
    series = json.loads(done.stdout)["data"]["series"]
    assert {s["code"] for s in series} == {"SYNTHETIC"}


def test_the_same_command_gives_the_same_voxels(result: tuple[Path, dict[str, object]], head_study: Path, tmp_path: Path) -> None:
    done = medk2n(
        "synthesize", "--in", head_study, "--want", "FLAIR", "--out", tmp_path / "o", "--weights", TINY, "--quiet", "--threads", 1
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    one, other = (sitk.GetArrayFromImage(sitk.ReadImage(str(f / "synth_FLAIR.nii.gz"))) for f in (result[0], tmp_path / "o"))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_people_get_a_table_that_fits_80_columns(head_study: Path, tmp_path: Path) -> None:
    done = medk2n("synthesize", "--in", head_study, "--want", "missing", "--out", tmp_path / "o", "--weights", TINY)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC, NOT FOR DIAGNOSIS" in done.stdout
    assert "key frame" in done.stdout
    assert "device: cpu (auto:" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "no colours off a terminal"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert {f.name for f in (tmp_path / "o").glob("*.nii.gz")} == {f"synth_{m}.nii.gz" for m in ("T1C", "FLAIR", "DWI", "ADC")}


def test_grid_iso_writes_one_millimetre_voxels(head_study: Path, tmp_path: Path) -> None:
    done = medk2n(
        "synthesize",
        "--in",
        head_study,
        "--want",
        "FLAIR",
        "--out",
        tmp_path / "o",
        "--weights",
        TINY,
        "--grid",
        "iso",
        "--quiet",
    )
    assert done.returncode == 0, done.stderr
    assert np.allclose(sitk.ReadImage(str(tmp_path / "o" / "synth_FLAIR.nii.gz")).GetSpacing(), 1)


def bad(words: list[object], exit_code: int, code: str) -> object:
    return pytest.param(words, exit_code, code, id=code)


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        bad(["--ignore", "T1", "--ignore=T2"], 4, "GIVEN_TWICE"),
        bad(["--want", "FLAIR", "--want", "T1C"], 4, "GIVEN_TWICE"),
        bad(["--in", "STUDY", "--want", "PET"], 4, "UNKNOWN_MODALITY"),
        bad(["--in", "STUDY", "--want", "T1"], 4, "ALREADY_ACQUIRED"),
        bad(["--in", "STUDY", "--want", "FLAIR", "--grid", "ADC"], 4, "GRID_NOT_ACQUIRED"),
        bad(["--in", "STUDY", "--want", "FLAIR", "--use", "T1"], 4, "BAD_USE"),
        bad(["--in", "STUDY", "--want", "FLAIR", "--use", "T1=none.nii"], 3, "USE_NOT_FOUND"),
        bad(["--in", "STUDY", "--want", "FLAIR", "--ignore", "T1,T2"], 3, "IGNORED"),
        bad(["--in", "nowhere"], 3, "NOT_FOUND"),
        bad(["--in", "EMPTY"], 3, "NOTHING_FOUND"),
        bad(["--in", "STUDY", "--weights", "nobody"], 5, "WEIGHTS_NOT_FOUND"),
        bad(["--in", "STUDY", "--device", "tpu"], 7, "UNKNOWN_DEVICE"),
        bad(["--wrong"], 2, "USAGE"),
    ],
)
def test_a_refusal_has_its_exit_code_and_leaves_nothing(
    words: list[str], exit_code: int, code: str, head_study: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"STUDY": head_study, "EMPTY": tmp_path / "empty"}
    out = tmp_path / "out"
    weights = [] if "--weights" in words else ["--weights", TINY]
    done = medk2n("synthesize", *[places.get(w, w) for w in words], "--out", out, *weights, "--json")
    assert failed(done, exit_code)["code"] == code
    assert not out.exists()


def broken_study(folder: Path, how: str) -> Path:
    grid = phantom.axial((4.0, 4.0, 4.0))
    phantom.write_study(folder, (Modality.T1, Modality.T2), grid)
    file = folder / "T1.nii.gz"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:3000])
    elif how == "empty volume":
        phantom.write(file, np.zeros(grid.shape, np.int16), grid)
    elif how == "nan":
        array = phantom.volume(Modality.T1, grid)
        array[3, 3, 3] = np.nan
        phantom.write(file, array, grid)
    elif how == "two T1":
        phantom.write(folder / "other_T1.nii.gz", phantom.volume(Modality.T1, grid), grid)
    elif how == "far apart":
        image = sitk.ReadImage(str(file))
        image.SetOrigin([900.0, 0.0, 0.0])
        sitk.WriteImage(image, str(file))
    return folder


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("truncated", "TRUNCATED"),
        ("empty volume", "EMPTY_VOLUME"),
        ("nan", "NAN_VOXELS"),
        ("two T1", "DUPLICATE_MODALITY"),
        ("far apart", "NO_OVERLAP"),
    ],
)
def test_bad_studies_are_refused_and_an_earlier_result_survives(how: str, code: str, tmp_path: Path) -> None:
    study, out = broken_study(tmp_path / "study", how), tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text('{"schema": "medk2n.result/1", "outputs": []}')
    done = medk2n("synthesize", "--in", study, "--want", "FLAIR", "--out", out, "--weights", TINY, "--overwrite", "--json")
    assert failed(done, 3)["code"] == code
    assert [f.name for f in out.iterdir()] == ["result.json"]


def test_a_full_output_folder_is_refused_before_any_work(head_study: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    done = medk2n("synthesize", "--in", head_study, "--out", tmp_path, "--weights", "nobody", "--json")
    assert failed(done, 6)["code"] == "OUT_NOT_EMPTY", "the folder is opened before the weights are"


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit to set")
def test_a_disk_that_fills_up_while_writing_leaves_nothing_half_written(head_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from medk2n_cli.cli.app import main; sys.argv[0] = 'medk2n'; main()"
    )
    words = ["synthesize", "--in", head_study, "--want", "FLAIR", "--out", out, "--weights", TINY, "--json"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert failed(done, 6)["code"] == "CANNOT_WRITE"
    assert not out.exists()


def test_cuda_on_a_machine_without_it_is_refused(head_study: Path, tmp_path: Path) -> None:
    from medk2n_cli.model.device import cuda_problem

    if cuda_problem() is None:
        pytest.skip("this machine has CUDA")
    done = medk2n("synthesize", "--in", head_study, "--out", tmp_path / "o", "--weights", TINY, "--device", "cuda", "--json")
    assert failed(done, 7)["code"] == "NO_CUDA"


def test_scan_says_what_every_file_is_taken_for(head_study: Path) -> None:
    done = medk2n("scan", head_study)
    assert done.returncode == 0
    assert "T1.nii.gz" in done.stdout
    assert "'t2' in the name" in done.stdout


def test_inspect_weights_shows_card_contract_and_gate() -> None:
    done = medk2n("inspect-weights")
    assert done.returncode == 0, done.stderr
    for word in (
        "PreWeightNet",
        "ThresholdNet",
        "EffiWeightNet",
        "TaskHeadNet",
        "CMIM",
        "GreaterOrEqual",
        "gate_override",
        "Apache-2.0",
    ):
        assert word in done.stdout
    data = json.loads(medk2n("inspect-weights", TINY, "--json").stdout)["data"]
    assert data["verified"] is True
    assert set(data["card"]["parameters"]) >= {"encoder", "decoder", "CMIM"}


def test_the_demo_runs_and_says_where_to_look(tmp_path: Path) -> None:
    done = medk2n("demo", "--out", tmp_path / "demo", "--json")
    assert done.returncode == 0, done.stderr
    assert {f.name for f in (tmp_path / "demo" / "study").iterdir()} == {"T1.nii.gz", "T2.nii.gz", "simulation.json"}
    assert (tmp_path / "demo" / "result" / "synth_FLAIR.nii.gz").exists()
    again = medk2n("demo", "--out", tmp_path / "demo", "--json")
    assert failed(again, 6)["code"] == "OUT_NOT_EMPTY"


def test_every_command_has_help_with_an_example() -> None:
    top = medk2n("--help")
    for command in ("synthesize", "scan", "inspect-weights", "demo"):
        assert command in top.stdout
        shown = medk2n(command, "--help")
        assert shown.returncode == 0
        assert "Example: medk2n" in shown.stdout


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "SimpleITK", "onnxruntime", "torch", "pydicom")
    code = f"import sys, medk2n_cli.cli.app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_inference_never_imports_torch(head_study: Path) -> None:
    code = (
        "import sys; from medk2n_cli.pipeline import Request, open_weights, synthesise; from pathlib import Path; "
        f"synthesise(Request((Path({str(head_study)!r}),)), open_weights({str(TINY)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_date_user_or_folder_of_this_machine_is_written(result: tuple[Path, dict[str, object]], head_study: Path) -> None:
    for file in (f for f in result[0].rglob("*") if f.is_file()):
        content = gzip_or_plain(file)
        assert str(head_study).encode() not in content
        assert str(Path.home()).encode() not in content


def gzip_or_plain(file: Path) -> bytes:
    import gzip

    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
