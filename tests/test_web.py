"""The page of ``python -m pipeline serve``, asked over HTTP.

The one page of these tests may open few files, and must have said nothing when it ends.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli import serve
from pipeline.core import images
from pipeline.inference import web
from tests.support.models.by_brightness import save_model
from tests.support.photos import drawing, png
from tests.support.runs import ROOT
from tests.support.web_page import Slow, shown


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a page that another process shows; it ends as people end it."""
    model = save_model(tmp_path_factory.mktemp("model") / "saved")
    few_files = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    command = [*few_files, sys.executable, "-m", "pipeline", "serve", "--model", str(model)]
    # Not a pipe: what is said in thousands of lines would stop the page.
    log = tmp_path_factory.mktemp("log") / "stderr"
    with subprocess.Popen(
        [*command, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        try:
            yield line.removeprefix("Open ").split()[0]
        finally:
            process.send_signal(signal.SIGINT)
    assert (process.returncode, log.read_text()) == (0, "")


def ask(url: str, contents: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=contents)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def decode(uri: str) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_photo_is_segmented_at_its_own_size(page: str) -> None:
    assert page.startswith("http://127.0.0.1:")
    status, body = ask(page + "segment", images.encode(drawing(320, 240)))
    answer = json.loads(body)
    assert status == 200
    assert (answer["width"], answer["height"]) == (320, 240)
    mask = decode(answer["mask"])
    assert (mask[120, 160], mask[5, 5], mask[120, 92]) == (1, 2, 3)
    assert decode(answer["picture"])[120, 160].tolist() == images.COLOURS[0].tolist()
    assert decode(answer["overlay"]).shape == (240, 320, 3)
    assert answer["shares"]["pet"] == pytest.approx((mask == 1).mean())


@pytest.mark.parametrize(
    ("contents", "status", "sentence"),
    [
        (png(13_000, 13_000), 422, "it is 13000x13000 pixels, more than 50 megapixels; make it"),
        (b"no image", 422, "not a JPEG, PNG, GIF or BMP image, or a damaged one."),
        (b"", 422, "the file is empty."),
        (images.encode(drawing(5000, 20)), 422, "the model failed ("),
        (bytes(web.MAX_BYTES + 1), 413, "larger than 50 MB. Choose a smaller one."),
    ],
)
def test_bad_photo_gets_a_sentence_and_the_next_is_done(
    page: str, contents: bytes, status: int, sentence: str
) -> None:
    code, body = ask(page + "segment", contents)
    assert code == status
    error = json.loads(body)["error"]
    assert sentence in error
    assert "\n" not in error
    assert ask(page + "segment", images.encode(drawing(30, 20)))[0] == 200


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    status, body = ask(page)
    assert status == 200
    assert b"border</li>" in body
    assert b"//" not in body
    assert ask(page + "docs")[0] == 404


def test_wrong_paths_and_methods_are_errors(page: str) -> None:
    status, body = ask(page + "nowhere")
    assert status == 404
    assert "/nowhere does not exist. Use GET / for the page" in json.loads(body)["error"]
    status, body = ask(page + "segment")
    assert status == 405
    assert "/segment does not accept GET" in json.loads(body)["error"]


def test_an_oversized_content_length_is_refused_at_once(page: str) -> None:
    host, port = urllib.parse.urlsplit(page).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /segment HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000000\r\n\r\n"
        connection.sendall(head.encode() + b"a photo")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert "larger than 50 MB" in json.loads(answer.read())["error"]


def test_a_form_post_gets_instructions(page: str) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(page + "segment", data=b"--x--", headers=form)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 422
    assert "curl, use --data-binary" in json.loads(caught.value.read())["error"]


def test_wrong_calls_get_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["--port", port], f"at 127.0.0.1, port {port} ("),
            (["--port", "99999"], "99999 is not a valid port. Choose one from 1 to 65535"),
            (["--host", "no.such.name.invalid"], "at no.such.name.invalid, port 8510 ("),
            (["photo.jpg"], "Unrecognized arguments: photo.jpg; --help lists all arguments."),
        ):
            assert serve.main(["--model", str(tmp_path), *arguments]) == 2
            error = capsys.readouterr().err
            assert words in error
            assert error.count("\n") == 1


def headers_of(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    data = images.encode(drawing(30, 20)) if "segment" in url else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, given)) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "8.8.8.8", "a@b", "[x"])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(page: str, host: str) -> None:
    for path in ("", "segment"):
        status, _, body = headers_of(page + path, Host=host)
        assert status == 403
        assert "host name in this request is not the page's own" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.0.0.1:99", "[::1]:80"]
)
def test_the_names_of_this_machine_are_taken(page: str, host: str) -> None:
    assert headers_of(page + "segment", Host=host)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_another_site_cannot_post(page: str, headers: dict[str, str], status: int) -> None:
    assert headers_of(page + "segment", **headers)[0] == status
    own = {"Origin": page.rstrip("/"), "Sec_Fetch_Site": "same-origin"}
    assert headers_of(page + "segment", **own)[0] == 200


def test_no_other_page_shows_it_and_no_browser_guesses(page: str) -> None:
    for path, host in (("", "localhost"), ("none", "localhost"), ("", "evil.example")):
        _, headers, _ = headers_of(page + path, Host=host)
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


def half_sent(page: str, body: bytes) -> socket.socket:
    host, port = page.removeprefix("http://").rstrip("/").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST /segment HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000000\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_uploads_that_break_off_or_stay_leave_the_page_usable(page: str) -> None:
    """And are not worth a word: the page's last test looks at what it said."""
    for _ in range(20):
        half_sent(page, b"some").close()
    held = []
    for _ in range(300):  # more than the files that the page may open
        with contextlib.suppress(OSError):  # the oldest make room for the newest
            held.append(half_sent(page, b"some"))
    assert ask(page)[0] == 200
    assert ask(page + "segment", images.encode(drawing(30, 20)))[0] == 200
    for connection in held:
        connection.close()


def test_several_at_once_are_done(page: str) -> None:
    photos = [images.encode(drawing(40, 30))] * 12 + [png(3_900, 4_000)] * 2 + [b"none"] * 2
    with futures.ThreadPoolExecutor(16) as pool:
        codes = [code for code, _ in pool.map(lambda each: ask(page + "segment", each), photos)]
    assert codes == [200] * 14 + [422] * 2


def test_it_listens_where_it_says() -> None:
    for host, start in (
        ("::1", "http://[::1]:"),
        ("[::1]", "http://[::1]:"),
        ("::", "http://[::1]:"),
    ):
        with web.listen(host, 0) as listener:
            assert web.address_of(listener).startswith(start)
            socket.create_connection(("::1", listener.getsockname()[1])).close()
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        with web.listen(host, 0) as listener:
            address = urllib.parse.urlsplit(web.address_of(listener))
            assert address.hostname in ("127.0.0.1", "::1")
            socket.create_connection((address.hostname, address.port or 0)).close()


def test_photos_share_one_budget_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = images.encode(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))
    monkeypatch.setattr(web, "_MAX_TOTAL_BYTES", len(photo) * 3 // 2)
    model = Slow()
    with shown(model) as url, futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, url + "segment", photo)
        assert model.asked.wait(60)
        code, body = ask(url + "segment", photo)
        assert code == 503
        assert json.loads(body)["error"].startswith("The server is busy with too many photos.")
        model.may.set()
        assert first.result()[0] == 200
        assert ask(url + "segment", photo)[0] == 200


def test_want_of_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError

    model = Slow()
    model.may.set()
    monkeypatch.setattr(images, "overlay", fail)
    with shown(model) as url:
        code, body = ask(url + "segment", images.encode(drawing(30, 20)))
    assert code == 503
    assert "not enough memory" in json.loads(body)["error"]
