"""The page of ``python -m pipeline.predict --serve``, asked over HTTP."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_predict import drawing, save_model

from pipeline import images, predict, web


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a page that another process shows; it ends as people end it."""
    model = save_model(tmp_path_factory.mktemp("model") / "saved")
    command = [sys.executable, "-m", "pipeline.predict", "--model", str(model)]
    with subprocess.Popen(
        [*command, "--serve", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        try:
            yield line.removeprefix("Open ").split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")


def ask(url: str, contents: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=contents)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def decode(uri: str) -> np.ndarray:
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
        (b"no image", 422, "not a JPEG, PNG, GIF or BMP image, or a damaged one."),
        (b"", 422, "the file is empty."),
        (images.encode(drawing(5000, 20)), 422, "the model cannot take it ("),
        (bytes(web.MOST_BYTES + 1), 413, "larger than 50 MB; give a smaller one."),
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


def test_a_form_is_told_how_to_send_a_photo(page: str) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(page + "segment", data=b"--x--", headers=form)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 422
    assert "curl --data-binary" in json.loads(caught.value.read())["error"]


def test_wrong_calls_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["--serve", "--port", port], f"on 127.0.0.1, port {port} ("),
            (["--serve", "--port", "99999"], "port 99999"),
            (["--serve", "photo.jpg"], "leave out --output-dir and IMAGE"),
            (["photo.jpg"], "Give --output-dir and photos, or --serve"),
            (["--output-dir", "out"], "Give --output-dir and photos, or --serve"),
        ):
            assert predict.main(["--model", str(tmp_path), *arguments]) == 2
            error = capsys.readouterr().err
            assert words in error
            assert error.count("\n") == 1
