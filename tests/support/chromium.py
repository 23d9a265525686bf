"""A page in headless Chromium, driven over its DevTools protocol, and the shots of a report."""

from __future__ import annotations

import base64
import io
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websocket
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "chrome")

_TOP_OF_HEADING = Path(__file__).parent / "programs" / "top_of_heading.js"


@dataclass(frozen=True)
class Shot:
    """One picture: parts of the page side by side, each as large as the window."""

    name: str
    width: int  # of the window, CSS pixels
    height: int
    parts: tuple[str, ...]  # headings; "" is the top of the page
    scale: float = 1  # pixels of the picture a CSS pixel
    mobile: bool = False
    media: str = "screen"
    scheme: str = "light"
    margin: int = 0  # round each part, CSS pixels


SHOTS = (
    Shot("phone", 390, 844, ("", "By species", "Test photos", "Components"), 1.25, mobile=True),
    Shot("dark", 1000, 1100, ("", "Test photos"), 0.8, scheme="dark"),
    # A4 with the browser's own margins.
    Shot("print", 718, 1047, ("", "By species", "Test photos"), 0.9, media="print", margin=38),
)


class Page:
    """A page in Chromium."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the DevTools protocol; returns its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]
        return result.get("value")

    def open(self, url: str) -> None:
        """Loads a page, with all its pictures."""
        self.call("Page.navigate", url=url)
        while self.evaluate("document.readyState") != "complete":
            time.sleep(0.05)

    def forget(self, place: Path) -> None:
        """Takes a folder of this machine out of what the page says."""
        self.evaluate(
            "document.querySelectorAll('.facts dd').forEach(each => {"
            f" each.textContent = each.textContent.replace({json.dumps(f'{place}/')}, ''); }})"
        )

    def show(self, shot: Shot) -> None:
        """Sets window and media."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=shot.width,
            height=shot.height,
            deviceScaleFactor=shot.scale,
            mobile=shot.mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": shot.scheme}
        self.call("Emulation.setEmulatedMedia", media=shot.media, features=[scheme])

    def picture(self, shot: Shot, heading: str) -> Image.Image:
        """The part of the page that begins with a heading, as large as the window."""
        find_top = f"{_TOP_OF_HEADING.read_text()}({json.dumps(heading)})"
        top = self.evaluate(find_top) if heading else 0
        clip = {"x": 0, "y": top, "width": shot.width, "height": shot.height, "scale": 1}
        data = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@contextmanager
def chromium() -> Iterator[Page]:
    """A page in a Chromium of its own, with a profile of its own."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit(
            "There is no Chromium here; install it (Debian: apt-get install chromium)."
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        browser = subprocess.Popen([program, *options, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                (target,) = (each for each in json.load(answer) if each["type"] == "page")
            # Without an Origin, which Chromium would refuse.
            socket = websocket.create_connection(
                target["webSocketDebuggerUrl"], suppress_origin=True, timeout=60
            )
            yield Page(socket)
            socket.close()
        finally:
            browser.terminate()
            browser.wait()


def _port(file: Path) -> int:
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text().split()[0])
        time.sleep(0.1)
    raise SystemExit("Chromium did not start within a minute.")
