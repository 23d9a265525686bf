"""onnxruntime-web: the ONNX file on WebAssembly, in a page in Chromium."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tests.support import chromium, debian

from .. import Answer, _js

_HERE = Path(__file__).parent
_LONGEST = 600  # seconds for one answer
_LOOK = 20  # seconds between two looks; less than the browser's connection has patience


class _Handler(http.server.SimpleHTTPRequestHandler):
    # By itself it asks the machine's own table, which may know neither.
    extensions_map = {  # noqa: RUF012  the base class has it so
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def ask(model: Path, photos: Sequence[NDArray[Any]], rounds: int = 0, threads: int = 1) -> Answer:
    """Asks an ONNX file for photos, one at a time.

    Args:
      model: the file.
      photos: decoded, RGB, uint8 [height, width, 3] each; [batch, height, width, 3]: asked for
        together.
      rounds: how often each photo is asked for against the clock.
      threads: must be 1: more need a page that the browser isolates from all others.

    Raises:
      RuntimeError: a photo, or the model, fails.
      Unavailable: npm, onnxruntime-web or Chromium cannot be had.
    """
    if threads != 1:
        raise ValueError("onnxruntime-web has one thread here.")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _js.prepare(_HERE, work)
        if not any(map(shutil.which, chromium.BROWSERS)):
            debian.need("chromium", packages=["chromium"])
        request = _js.request(work, model, photos, rounds, threads)
        with _served(work) as url, chromium.chromium() as page:
            page.open(url)
            said = _answer(page, request)
        return _js.answer(said, [base64.b64decode(each) for each in said["contents"]])


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _answer(page: chromium.Page, request: dict[str, Any]) -> dict[str, Any]:
    _evaluate(page, f"window.asked = answer({json.dumps(request)}); null")
    wait = f"Promise.race([asked, new Promise(done => setTimeout(done, {1000 * _LOOK}, null))])"
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end:
        answer: dict[str, Any] | None = _evaluate(page, wait)
        if answer is not None:
            return answer
    raise RuntimeError(f"the page did not answer within {_LONGEST} seconds")


def _evaluate(page: chromium.Page, expression: str) -> Any:
    """The value of an expression, or of the promise that it is."""
    said = page.call(
        "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
    )
    if "exceptionDetails" in said:
        raise RuntimeError(f"the page failed: {said['exceptionDetails']}"[:2000])
    return said["result"].get("value")
