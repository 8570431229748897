"""A real browser, driven over its debugging pipe: pages are used as people use them, and every request is seen."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
_QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
_SILENT = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
# It reads from its descriptor 3 and writes to 4, whatever numbers the pipes have here.
_START = """
import fcntl, os, sys
for number, given in enumerate([fcntl.fcntl(int(n), fcntl.F_DUPFD, 100) for n in sys.argv[1:3]], start=3):
    os.dup2(given, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, " ": 32}
_WAIT = 60.0  # seconds for one answer


class Browser:
    """One tab. `events` is all the browser has told so far."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._number = write, read, b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._write, json.dumps(said).encode() + b"\0")
        while True:
            heard = self._next()
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
            self.events.append(heard)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _WAIT
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            self._rest += os.read(self._read, 1 << 20)
        one, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(one)
        return heard

    def open(self, file: Path) -> None:
        self.call("Page.navigate", url=file.as_uri())
        self.until("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:  # noqa: ANN401 - whatever the page answers
        """Of JavaScript, waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        end = time.monotonic() + _WAIT
        while not self.value(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def key(self, key: str, text: str = "") -> None:
        about = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": _KEYS.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, x: float, y: float, by: tuple[float, float] = (0, 0)) -> None:
        """Press, move, release; a click without a move."""
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        if any(by):
            self.mouse("mouseMoved", x + by[0] / 2, y + by[1] / 2, button="left", buttons=1)
            self.mouse("mouseMoved", x + by[0], y + by[1], button="left", buttons=1)
        self.mouse("mouseReleased", x + by[0], y + by[1], button="left", clickCount=1)

    def picture(self, file: Path) -> Path:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return file

    def requests(self) -> list[str]:
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[dict[str, Any]]:
        """What the console shows: errors, refused by policy, thrown."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [e for e in self.events if e["method"] in kinds]


@contextmanager
def browser(profile: Path, size: tuple[int, int] = (1400, 900)) -> Iterator[Browser]:
    """Chromium without a window, its profile thrown away with `profile`."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    words = [*_QUIET, *_SILENT, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--remote-debugging-pipe"]
    start = [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), str(CHROMIUM), *words]
    process = subprocess.Popen(start, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        one = Browser(ours_out, ours_in)
        yield one
    finally:
        process.terminate()
        process.wait(timeout=30)
        os.close(ours_out)
        os.close(ours_in)
