from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from medk2n_cli.core.errors import OutputError
from medk2n_cli.core.fusion import FusionReport
from medk2n_cli.core.geometry import Grid
from medk2n_cli.core.modality import Modality
from medk2n_cli.core.study import Study
from medk2n_cli.core.views import Views
from medk2n_cli.core.volumes import Volume
from medk2n_cli.writing import viewer
from medk2n_cli.writing.acquired import Acquired, Formats
from medk2n_cli.writing.folder import open_folder
from medk2n_cli.writing.result import write_result
from medk2n_cli.writing.viewer import write_viewer
from tests import phantom
from tests.writing.browser import CHROMIUM, Browser, browser
from tests.writing.derivations import synthesis, target_report, views_of

T1, T1C, T2, FLAIR, DWI, ADC = Modality
GRID = phantom.axial((2, 2, 6))
HOSTILE = '<script>alert("1")</script> & Ünïcode </script> \'"'
MARK_DRAWN = 300  # amber pixels at the foot of a picture: far more than a letter has
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")


def made_report(targets: tuple[Modality, ...] = (FLAIR, T1C), depth: int = 1) -> FusionReport:
    sources = (T1, T2)
    volume = Volume(phantom.volume(FLAIR, GRID), GRID)
    quality = tuple(0.5 + 0.4 * n / max(1, depth - 1) for n in range(depth))
    made = tuple(replace(target_report(t, sources), slice_quality=quality) for t in targets)
    return replace(synthesis(FLAIR, volume, sources).report, targets=made)


def seen(grid: Grid = GRID) -> Views:
    """Two inputs and two targets, each with a contrast of its own; the phantom's mark is left, anterior, superior."""
    image = {m: (phantom.sample(m, phantom.points(grid)) / 1000).astype(np.float16) for m in (T1, T2, FLAIR, T1C)}
    error = (image[T2] * np.float16(0.2)).astype(np.float16)
    made = {m: image[m] for m in (FLAIR, T1C)}
    return Views(grid, image[T1] > 0, {m: image[m] for m in (T1, T2)}, made, dict.fromkeys(made, error))


def depth_of(views: Views) -> int:
    return int(views.head.any((0, 1)).sum())


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = made_report(depth=depth_of(seen()))
    hostile = replace(report, warnings=(HOSTILE,), model=replace(report.model, name=HOSTILE))
    return write_viewer(tmp_path_factory.mktemp("viewer") / "viewer.html", hostile, seen())


def study_in(file: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', file.read_text(encoding="utf-8"), re.S)
    assert found is not None
    study: dict[str, Any] = json.loads(found[1])
    return study


def unpacked(volume: dict[str, Any], shape: list[int]) -> NDArray[np.uint8]:
    """(I, J, K) levels, by the book: each byte is what is missing to the mean of three neighbours."""
    i, j, k = shape[0] // volume["step"], shape[1] // volume["step"], shape[2]
    rest = np.frombuffer(zlib.decompress(base64.b64decode(volume["data"])), np.uint8).reshape(k, j, i)
    v = np.zeros((k + 1, j + 1, i + 1), np.int64)
    for c, b, a in np.ndindex(rest.shape):
        before = v[c, b + 1, a + 1] + v[c + 1, b, a + 1] + v[c + 1, b + 1, a]
        v[c + 1, b + 1, a + 1] = (int(rest[c, b, a]) + before // 3) % 256
    return v[1:, 1:, 1:].T.astype(np.uint8)


def test_nothing_but_its_own_style_and_script_can_run_or_load(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    digests = {
        name: base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        for name, body in re.findall(r"<(style|script)>(.*?)</\1>", text, re.S)
    }
    assert policy[1].split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{digests['script']}'",
        f"style-src 'sha256-{digests['style']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert text.count("<script>") == 1
    assert not re.search(r"""\b(src|href|on\w+|style)\s*=\s*["']|url\(|https?:""", text)


def test_hostile_words_stay_words(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;alert(") == 2, "a warning and the weights' name"


def test_pictures_keep_their_values_to_half_a_level(html: Path) -> None:
    views, study = seen(), study_in(html)
    assert [v["name"] for v in study["acquired"]] == ["T1", "T2"]
    given = study["acquired"][1]
    levels = unpacked(given, study["shape"])
    inside = tuple(slice(m, m + n) for m, n in zip(study["margins"], study["sizes"], strict=True))
    there = tuple(slice(f, f + n) for f, n in zip(study["first"], study["sizes"], strict=True))
    top = study["headroom"] * views.window(views.inputs[T2])
    expected = np.clip(views.inputs[T2].astype(float)[there] / top, 0, 1)
    assert np.abs(levels[inside] / given["levels"] - expected).max() <= 0.5 / given["levels"] + 1e-6
    levels[inside] = 0
    assert not levels.any(), "nothing around the head"


def test_a_study_of_155_slices_with_noise_stays_under_8_mb(tmp_path: Path) -> None:
    grid = Grid((192, 224, 155), np.diag([1.0, 1.0, 1.0, 1.0]))
    chance = np.random.default_rng(0)
    at = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in grid.shape], indexing="ij"), -1)
    image = {m: phantom.sample(m, at) / 900 for m in (T1, T2, FLAIR, T1C)}
    head = image[T1] > 0
    noisy = {m: (np.abs(image[m] + chance.normal(0, 0.03, grid.shape)) * head).astype(np.float16) for m in (T1, T2)}
    smooth = {m: (np.abs(image[m] + chance.normal(0, 0.01, grid.shape)) * head).astype(np.float16) for m in (FLAIR, T1C)}
    error = {m: (image[m] * 0.2 + chance.normal(0, 0.02, grid.shape) * head).astype(np.float16) for m in smooth}
    started = time.perf_counter()
    file = write_viewer(tmp_path / "viewer.html", made_report(), Views(grid, head, noisy, smooth, error))
    assert time.perf_counter() - started < 60
    assert file.stat().st_size < 8e6
    kept = study_in(file)
    assert all(v["levels"] >= 31 for v in (*kept["acquired"], *kept["made"]))
    assert all(v["step"] == 1 for v in (*kept["acquired"], *kept["made"])), "at the resolution of the grid"


def test_what_cannot_fit_is_kept_as_coarse_as_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "LIMIT", 1)
    study = study_in(write_viewer(tmp_path / "viewer.html", made_report(), seen()))
    assert {(v["levels"], v["step"]) for v in (*study["acquired"], *study["made"])} == {(31, 2)}


def test_a_viewer_that_cannot_be_made_costs_neither_the_volumes_nor_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("no script")

    monkeypatch.setattr(viewer, "_with_hashes", broken)
    volume = Volume(phantom.volume(FLAIR, GRID), GRID)
    acquired = Acquired(Study(tmp_path, ()), {}, views_of(volume, FLAIR, (T1, T2)))
    with pytest.raises(OutputError) as failure, open_folder(tmp_path / "out", overwrite=False) as folder:
        write_result(folder, synthesis(FLAIR, volume, (T1, T2)), acquired, Formats(viewer=True), {})
    assert (failure.value.code, failure.value.exit_code) == ("REPORT_FAILED", 6)
    assert "but viewer.html could not be made" in failure.value.problem
    listed = {f["file"] for f in json.loads((tmp_path / "out" / "result.json").read_text())["outputs"]}
    assert listed >= {"synth_FLAIR.nii.gz", "report.html", "preview/synth_FLAIR.png"}
    assert "viewer.html" not in listed
    assert "viewer.html" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tab(html: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    with browser(html.parent / "profile") as one:
        yield one


@pytest.fixture
def page(tab: Browser, html: Path) -> Browser:
    tab.events.clear()
    tab.open(html)
    return shown(tab)


def shown(tab: Browser) -> Browser:
    tab.until("!document.querySelector('main').hidden")
    settled(tab)
    return tab


def settled(tab: Browser) -> None:
    tab.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


def canvas(tab: Browser, plane: str = "axial") -> NDArray[np.float32]:
    """(height, width, 3) in [0, 1], as drawn."""
    settled(tab)
    url = tab.value(f"document.querySelector('#{plane} canvas').toDataURL()")
    picture: NDArray[np.float32] = matplotlib.image.imread(io.BytesIO(base64.b64decode(url.split(",")[1])), format="png")
    return picture[..., :3]


def middle(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the words and letters around it."""
    height, width = picture.shape[0] // 8, picture.shape[1] // 8
    return picture[height:-height, width:-width]


def amber(picture: NDArray[np.float32]) -> int:
    """Pixels of the mark in the lowest twelfth."""
    foot = picture[-picture.shape[0] // 12 :]
    return int((np.abs(foot - np.array([1, 0xB0 / 255, 0])).max(-1) < 0.02).sum())


def centre(tab: Browser, plane: str = "axial") -> tuple[float, float]:
    place = tab.value(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({rectangle(plane)})")
    return place[0], place[1]


def rectangle(plane: str) -> str:
    return f"document.querySelector('#{plane} canvas').getBoundingClientRect()"


def number(tab: Browser, control: str) -> float:
    return float(tab.value(f"document.querySelector('{control}').valueAsNumber"))


def turned(tab: Browser, control: str, value: object) -> None:
    """A control moved as a hand moves it."""
    script = f"""(() => {{ const one = document.querySelector('{control}');
    typeof {json.dumps(value)} === 'boolean' ? one.checked = {json.dumps(value)} : one.value = {json.dumps(value)};
    one.dispatchEvent(new Event('input')); }})()"""
    tab.value(script)


@needs_chromium
def test_it_opens_from_a_folder_without_a_word_of_complaint_and_asks_the_network_for_nothing(page: Browser, html: Path) -> None:
    assert page.complaints() == []
    assert page.requests() == [html.as_uri()]
    page.value("fetch('https://example.org/').catch(() => 0)")
    assert page.complaints(), "the policy forbids even what a script would ask for"
    assert "alert(" in page.value("document.body.innerText")
    assert page.value("document.scripts.length") == 2


@needs_chromium
def test_keys_and_wheel_scroll_and_say_where(page: Browser) -> None:
    first, before = number(page, "#axial input"), canvas(page)
    page.drag(*centre(page))
    page.key("ArrowUp")
    settled(page)
    assert number(page, "#axial input") == first + 1
    assert np.abs(canvas(page) - before).max() > 0.2
    x, y = centre(page)
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100)
    settled(page)
    assert number(page, "#axial input") == first + 2
    page.value("document.querySelector('#axial input').focus()")
    for _ in range(40):
        page.key("ArrowDown")
    settled(page)
    assert number(page, "#axial input") == number_of(page, "min")
    said = page.value("document.querySelector('#axial input').getAttribute('aria-valuetext')")
    assert said == f"{number(page, '#axial input'):.0f} of {GRID.shape[2]}, predicted SSIM 0.50"


def number_of(tab: Browser, attribute: str) -> float:
    return float(tab.value(f"document.querySelector('#axial input').{attribute}"))


@needs_chromium
def test_a_click_sends_the_other_planes_there(page: Browser) -> None:
    x, y = centre(page)
    before = number(page, "#sagittal input"), number(page, "#coronal input")
    page.drag(x + 40, y - 60)
    settled(page)
    assert number(page, "#sagittal input") > before[0], "to the right of the picture is the patient's left"
    assert number(page, "#coronal input") < before[1], "upwards is anterior"


@needs_chromium
@pytest.mark.parametrize("spacing", [(2.0, 2.0, 6.0), (1.5, 3.0, 2.0)])
def test_left_is_right_and_a_millimetre_a_millimetre(tab: Browser, tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    grid, spot = phantom.axial(spacing), np.array([35.0, -40.0, 20.0])
    lps = phantom.points(grid)
    head, ball = np.linalg.norm(lps / [70, 88, 78], axis=-1) < 1, np.linalg.norm(lps - spot, axis=-1) < 20
    image = (head * 0.3 + ball * 0.7).astype(np.float16)
    tab.open(
        write_viewer(
            tmp_path / "viewer.html",
            made_report((FLAIR,)),
            Views(grid, head, {T1: image}, {FLAIR: image}, {FLAIR: image * np.float16(0)}),
        )
    )
    shown(tab)
    index = np.rint((spot - np.array(grid.to_lps(np.zeros(3)))) / spacing).astype(int) + 1
    for plane, at in zip(("sagittal", "coronal", "axial"), index.tolist(), strict=True):
        turned(tab, f"#{plane} input", at)
    for plane, (right, down) in {"axial": (1, -1), "coronal": (1, -1), "sagittal": (-1, -1)}.items():
        grey = middle(canvas(tab, plane)).mean(-1)
        bright, body = np.argwhere(grey > 0.9), np.argwhere(grey > 0.3)
        away = bright.mean(0) - body.mean(0)
        assert (np.sign(away[1]), np.sign(away[0])) == (right, down), plane
        assert np.abs(away).min() > 0.4 * np.sqrt(len(bright) / np.pi), "well off the middle"
        high, wide = np.ptp(bright, axis=0)
        assert high / wide == pytest.approx(1, abs=0.25), f"{plane}: a ball is round"
        box, drawn = tab.value(f"(({{width, height}}) => [width, height])({rectangle(plane)})"), canvas(tab, plane).shape
        assert box[1] / box[0] == pytest.approx(drawn[0] / drawn[1], rel=0.01), "and not stretched on the page"


@needs_chromium
def test_the_blend_goes_from_acquired_to_synthetic_and_what_is_synthetic_is_marked(page: Browser) -> None:
    pictures = {}
    for share in (0, 50, 100):
        turned(page, "#blend", share)
        pictures[share] = middle(canvas(page))
        for plane in ("axial", "coronal", "sagittal"):
            assert (amber(canvas(page, plane)) > MARK_DRAWN) is (share > 0), (share, plane)
        label = page.value("document.querySelector('#axial canvas').getAttribute('aria-label')")
        assert ("SYNTHETIC, NOT FOR DIAGNOSIS" in label) is (share > 0)
        assert ("acquired T1" in label) is (share == 0)
    assert np.abs(pictures[0] - pictures[100]).mean() > 0.02
    assert np.abs((pictures[0] + pictures[100]) / 2 - pictures[50]).max() < 0.02
    turned(page, "#made", "T1C")
    assert np.abs(middle(canvas(page)) - pictures[100]).max() > 0.1


@needs_chromium
def test_the_mark_stays_through_every_slice_and_window_and_the_banner_when_scrolled(page: Browser) -> None:
    lowest, highest = int(number_of(page, "min")), int(number_of(page, "max"))
    for width, level in ((100, 50), (5, 0), (5, 125), (200, 0)):
        turned(page, "#width", width)
        turned(page, "#level", level)
        for at in range(lowest, highest + 1, 4):
            turned(page, "#axial input", at)
            assert amber(canvas(page)) > MARK_DRAWN
    page.value("window.scrollTo(0, 1e6)")
    assert page.value("document.querySelector('.banner').getBoundingClientRect().top") == 0
    turned(page, "#blend", 0)
    turned(page, "#error", True)
    assert amber(canvas(page)) > MARK_DRAWN, "an expected error is synthetic too"


@needs_chromium
def test_the_expected_error_is_laid_over_and_taken_off(page: Browser) -> None:
    assert np.ptp(middle(canvas(page)), axis=-1).max() == 0, "grey"
    page.drag(*centre(page))
    before = middle(canvas(page))
    page.key("e", "e")
    assert np.ptp(middle(canvas(page)), axis=-1).max() > 0.3
    assert page.value("document.querySelector('#error').checked") is True
    page.key("e", "e")
    assert np.array_equal(middle(canvas(page)), before)
    page.key(" ", " ")
    assert number(page, "#blend") == 0


@needs_chromium
def test_brightness_by_drag_and_by_keys(page: Browser) -> None:
    before = middle(canvas(page)).mean()
    page.drag(*centre(page), by=(0, -80))
    assert number(page, "#level") == 30
    assert middle(canvas(page)).mean() > before + 0.05, "up is brighter"
    page.drag(*centre(page), by=(60, 0))
    assert number(page, "#width") == 130
    page.value("document.querySelector('#reset').click()")
    assert (number(page, "#width"), number(page, "#level")) == (100, 50)
    assert middle(canvas(page)).mean() == pytest.approx(before)
    page.value("document.querySelector('#level').focus()")
    page.key("ArrowRight")
    assert number(page, "#level") == 51


@needs_chromium
def test_every_control_has_a_name_and_is_reached_by_tab(page: Browser) -> None:
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = [(n["role"]["value"], n["name"]["value"]) for n in nodes if not n.get("ignored") and "name" in n]
    controls = [(r, name) for r, name in named if r in ("slider", "combobox", "checkbox", "button", "image")]
    assert all(name for _, name in controls)
    kinds = [r for r, _ in controls]
    assert {k: kinds.count(k) for k in set(kinds)} == {"slider": 6, "combobox": 2, "checkbox": 1, "button": 2, "image": 4}
    names = {name for r, name in controls if r == "slider"}
    assert {n.split(" slice")[0] for n in names if "slice" in n} == {"Axial", "Coronal", "Sagittal"}
    reached = []
    for _ in range(11):
        page.key("Tab")
        reached.append(page.value("document.activeElement.id || document.activeElement.closest('figure').id"))
    assert reached == ["axial", "coronal", "sagittal", "acquired", "made", "blend", "swap", "error", "width", "level", "reset"]


@needs_chromium
def test_it_follows_light_and_dark(page: Browser, tmp_path: Path) -> None:
    for scheme, paper in (("light", 1.0), ("dark", 0x16 / 255)):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        picture = matplotlib.image.imread(page.picture(tmp_path / "shot.png"))[..., :3]
        assert np.allclose(picture[60:90, 2], paper, atol=0.02)
        assert np.allclose(picture[5, 30], (0x8A / 255, 0x3B / 255, 0), atol=0.02), "the banner"
    page.call("Emulation.setEmulatedMedia", features=[])


@needs_chromium
def test_a_browser_that_is_too_old_is_told_so(tab: Browser, html: Path) -> None:
    added = tab.call("Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream")
    tab.open(html)
    tab.until("document.querySelector('#trouble').innerText.includes('too old')")
    assert tab.value("document.querySelector('main').hidden") is True
    tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
