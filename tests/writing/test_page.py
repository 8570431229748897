from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Series, Study
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import Volume
from medk2n_cli.writing import figures
from medk2n_cli.writing.acquired import Acquired, Formats
from medk2n_cli.writing.figures import preview, strip
from medk2n_cli.writing.folder import open_folder
from medk2n_cli.writing.page import Page, in_words, write_page
from medk2n_cli.writing.result import write_result
from tests import phantom
from tests.writing.derivations import synthesis, target_report, views_of

T1, T1C, T2, FLAIR, DWI, ADC = Modality
GRID = phantom.axial((2, 2, 6))
VOLUME = Volume(phantom.volume(FLAIR, GRID), GRID)
SOURCES = (T1, T1C, T2)
HOSTILE = '<script>alert("1")</script> & Ünïcode \'"'


def page(**changes: object) -> Page:
    made = synthesis(FLAIR, VOLUME, SOURCES)
    unused = (Series("7 " + HOSTILE, (), None).refused("NOT_A_CONTRAST", "a localizer"),)
    provenance = (("weights", "medk2n-test 1.0"),)
    return replace(Page(made.report, views_of(VOLUME, FLAIR, SOURCES), unused, provenance), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hostile = page()
    report = replace(hostile.report, inputs=tuple(replace(i, source=HOSTILE, evidence=HOSTILE) for i in hostile.report.inputs))
    return write_page(tmp_path_factory.mktemp("page") / "report.html", replace(hostile, report=report))


def test_the_page_needs_nothing_from_elsewhere_and_is_small(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)""", text)
    assert not re.search(r"url\((?!['\"]?(data:|#))", text)
    assert "default-src 'none'" in text
    assert len(text) < 3e6


def test_hostile_tags_show_as_text(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert "alert(" in text
    assert "&lt;script&gt;" in text
    assert "Ünïcode" in text


def test_it_says_what_it_is_before_anything_else_and_shows_gates_and_reasons(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    body = text[text.index("<body>") :]
    assert body.index("SYNTHETIC, NOT FOR DIAGNOSIS") < body.index("<h1>")
    assert "key frame" in text
    assert re.search(r'class="c closed".*?0 %.*?gate closed: 0\.60', text, re.S)
    assert "a localizer" in text
    assert text.index("Provenance") > text.index("Not used")


CHROMIUM = shutil.which("chromium")


def chromium(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    quiet = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
        *(
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={file.parent}/profile",
        ),
    )
    return subprocess.run([str(CHROMIUM), *quiet, *words, file.as_uri()], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
def test_a_browser_shows_it(html: Path) -> None:
    done = chromium(html, "--window-size=1000,1600", f"--screenshot={html.parent / 'shot.png'}")
    picture = matplotlib.image.imread(html.parent / "shot.png")[..., :3]
    assert np.allclose(picture[5, 30], (0x8A / 255, 0x3B / 255, 0), atol=0.02), done.stderr  # the banner
    assert np.allclose(picture[60:90, 2], 1, atol=0.02), "light paper"
    strip_rows = (picture.mean(2) < 0.02).mean(1) > 0.3
    assert strip_rows.sum() > 150, "the strip of slices is there, on black"
    dom = chromium(html, "--dump-dom").stdout
    assert dom.count("<section") >= 4
    assert "alert(" in dom
    assert "<script" not in dom


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
def test_it_prints_on_a4(html: Path) -> None:
    chromium(html, f"--print-to-pdf={html.parent / 'page.pdf'}", "--no-pdf-header-footer")
    content = (html.parent / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    boxes = {tuple(round(float(v)) for v in m.groups()) for m in re.finditer(rb"MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", content)}
    assert all(abs(w - 595) <= 1 and abs(h - 842) <= 1 for w, h in boxes)


def test_words_name_the_slices_to_doubt() -> None:
    report = replace(target_report(FLAIR, SOURCES), slice_quality=(0.5, 0.4, 0.9, 0.9, 0.3), quality=0.62)
    assert in_words(report).endswith("Low confidence in slices 1-2, 5 of the head.")
    assert "looks like FLAIR (0.90)" in in_words(report)
    assert "Its brightness was multiplied by 0.82" in in_words(replace(report, level=0.82))
    assert "multiplied" not in in_words(replace(report, modality=Modality.ADC)), "whose scale is physical"


def marked(grid: object) -> Views:
    """A head with one bright spot on the patient's left, in front, above."""
    lps = phantom.points(grid)  # type: ignore[arg-type]
    head = np.linalg.norm(lps / [70, 88, 78], axis=-1) < 1
    spot = np.linalg.norm(lps - [35, 0, 0], axis=-1) < 20
    image = (head * 0.3 + spot * 0.7).astype(np.float16)
    return Views(grid, head, {T1: image}, {FLAIR: image}, {FLAIR: image * np.float16(0)})  # type: ignore[arg-type]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 6.0), (5.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_the_patients_left_is_on_the_right_of_a_preview(spacing: tuple[float, float, float]) -> None:
    picture = matplotlib.image.imread(io.BytesIO(preview(marked(phantom.axial(spacing)), FLAIR)), format="png")[..., :3]
    height, width = picture.shape[:2]
    axial_of_input = picture[int(height * 0.08) : int(height * 0.42), : width // 2].mean(2)
    bright = np.argwhere(axial_of_input > 0.9)
    assert bright[:, 1].mean() > axial_of_input.shape[1] * 0.6
    grey = np.argwhere(axial_of_input > 0.2)
    wide, high = np.ptp(grey[:, 1]), np.ptp(grey[:, 0])
    assert high / wide == pytest.approx(88 / 70, rel=0.12), "true aspect ratio"


def test_every_picture_is_marked() -> None:
    plain, blank = marked(GRID), marked(GRID)
    words = strip(plain, FLAIR)
    assert words[:2] == b"\xff\xd8"
    kept, figures.WATERMARK = figures.WATERMARK, ""
    try:
        assert strip(blank, FLAIR) != words, "the mark is drawn into the pixels"
    finally:
        figures.WATERMARK = kept


def test_a_page_that_cannot_be_made_does_not_cost_the_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(figures, "preview", broken)
    acquired = Acquired(Study(tmp_path, ()), {}, views_of(VOLUME, FLAIR, SOURCES))
    with pytest.raises(OutputError) as failure, open_folder(tmp_path / "out", overwrite=False) as folder:
        write_result(folder, synthesis(FLAIR, VOLUME, SOURCES), acquired, Formats(), {})
    assert failure.value.code == "REPORT_FAILED"
    assert {f.name for f in (tmp_path / "out").iterdir()} >= {"synth_FLAIR.nii.gz", "report.json", "result.json"}
    listed = [f["file"] for f in json.loads((tmp_path / "out" / "result.json").read_text())["outputs"]]
    assert "report.html" not in listed
    assert not (tmp_path / "out" / "preview").exists()
