"""Files, addresses and servers that mean no good, or are something else, met by kubeflow's client.

Loopback only; no answer of a server may steer the terminal, hold the client or get the token.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeflow import transport
from kubeflow.__main__ import main
from tests.support.kfp.api_server import Trouble
from tests.support.kfp.fixtures import Kubeflow
from tests.support.kfp.nodes import Look
from tests.support.runs import ROOT

pytest_plugins = ["tests.support.kfp.fixtures"]

SECRET = "s3cret-t0ken"


def private(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def raw_server(*parts: bytes, pause: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection with the parts, a pause after each; yields URL and requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            requests.append(connection.recv(65536))
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        listener.close()


def redirect(target: str, status: int = 302) -> bytes:
    head = f"HTTP/1.1 {status} Found\r\nLocation: {target}\r\nContent-Length: 0\r\n"
    return f"{head}Connection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"{SECRET}\n{SECRET}\n".encode(), "contains more than one line; it must contain one line"),
        (f"Bearer {SECRET}".encode(), "contains something other than a token"),
        (f"{SECRET}\r\nX-Header: {SECRET}".encode(), "contains more than one line"),
        (b"", "is empty; it must contain one line with the token."),
        (b" \n\n", "is empty"),
        (b"\x00\xff" + SECRET.encode(), "contains something other than a token"),
        (SECRET.encode("utf-16"), "contains something other than a token"),
        (b"a" * 2**17, "contains something other than a token"),
    ],
)
def test_a_bad_token_file_is_reported_without_the_token(
    kubeflow: Kubeflow, tmp_path: Path, content: bytes, sentence: str
) -> None:
    said = kubeflow.refusal("status", "--token-file", private(tmp_path / "token", content))
    assert sentence in said
    assert SECRET not in kubeflow.out + kubeflow.err
    assert kubeflow.server.requests == []


@pytest.mark.parametrize("name", ["none", "."])
def test_a_token_file_that_cannot_be_read_is_one_sentence(
    kubeflow: Kubeflow, tmp_path: Path, name: str
) -> None:
    said = kubeflow.refusal("status", "--token-file", str(tmp_path / name))
    assert "Cannot read the token in" in said


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 1), (0o644, 1), (0o604, 1)])
def test_a_token_that_others_can_read_is_a_warning(
    uploaded: Kubeflow, tmp_path: Path, mode: int, warned: int
) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    token.chmod(mode)
    assert uploaded("status", "--token-file", str(token)) == 0
    assert uploaded.err.count("run chmod 600 on it.") == warned


def test_a_server_that_repeats_the_token_does_not_get_it_shown(
    kubeflow: Kubeflow, tmp_path: Path
) -> None:
    body = f'{{"message": "no such token: {SECRET}"}}'.encode()
    kubeflow.server.troubles = [Trouble("healthz", 401, body)]
    said = kubeflow.refusal("status", "--token-file", private(tmp_path / "token", SECRET.encode()))
    assert "(401: no such token: (token))" in said


@pytest.mark.parametrize("body", [b"a", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"])
def test_an_answer_that_drips_is_bounded_as_a_whole(kubeflow: Kubeflow, body: bytes) -> None:
    with raw_server(body, *[b"x"] * 100, pause=0.1) as (url, _):
        begin = time.monotonic()
        said = kubeflow.refusal("status", "--request-timeout", "0.5", host=url)
    assert "did not respond within 0.5 s" in said
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    "target",
    [
        "{other}/apis/v2beta1/healthz",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://user:s3cret-t0ken@elsewhere.invalid/",
        "http://[/",
        "//elsewhere.invalid/dex",
    ],
)
def test_a_redirect_elsewhere_is_not_followed(
    kubeflow: Kubeflow, tmp_path: Path, target: str
) -> None:
    token = private(tmp_path / "token", SECRET.encode())
    with (
        raw_server(b"") as (other, reached),
        raw_server(redirect(target.format(other=other))) as (
            url,
            requests,
        ),
    ):
        said = kubeflow.refusal("status", "--token-file", token, host=url)
    assert "which is not followed" in said
    assert SECRET not in said
    assert SECRET.encode() in requests[0]
    assert reached == []


def test_a_redirect_to_itself_is_one_sentence(kubeflow: Kubeflow) -> None:
    with raw_server(redirect("/again")) as (url, requests):
        assert "redirects too many times" in kubeflow.refusal("status", host=url)
    assert len(requests) == 4


def test_a_redirect_on_the_same_server_is_followed(kubeflow: Kubeflow) -> None:
    with raw_server(redirect("/pipeline/")) as (url, requests):
        kubeflow.refusal("status", host=url)
    assert requests[1].startswith(b"GET /pipeline/ ")


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "body", [b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 950 + b"1" + b"}" * 950]
)
def test_deep_json_is_one_sentence(kubeflow: Kubeflow, status: int, body: bytes) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/pipelines$", status, body)]
    kubeflow("status")
    assert kubeflow.err.startswith("Error: ")
    assert len(kubeflow.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("matches", "body"),
    [
        ("healthz", b"[]"),
        ("GET .*/pipelines$", b'{"pipelines": [5]}'),
        ("GET .*/pipelines$", b"null"),
        ("GET .*/versions$", b'{"pipeline_versions": [null]}'),
        ("GET .*/recurringruns$", b'{"recurring_runs": [{"pipeline_version_reference": 5}]}'),
        ("GET .*/experiments$", b'{"experiments": [null]}'),
        ("GET .*/runs$", b'{"runs": [null]}'),
        ("GET .*/runs$", b'{"runs": [{"created_at": "no time"}]}'),
        (
            "GET .*/runs$",
            b'{"runs": [{"created_at": "2026-01-01", "finished_at": "2026-01-02T00:00:00Z"}]}',
        ),
    ],
)
def test_json_of_another_shape_is_one_sentence(
    uploaded: Kubeflow, matches: str, body: bytes
) -> None:
    assert uploaded.submit("--no-wait") == 0  # so that there is an experiment
    uploaded.server.troubles = [Trouble(matches, 200, body)]
    code = uploaded("status")
    assert code in (0, 2)
    assert code == 0 or len(uploaded.err.splitlines()) == 1


def test_a_huge_answer_is_one_sentence(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BYTES", 2**20)
    kubeflow.server.troubles = [Trouble("healthz", 200, b" " * 2**21)]
    assert "a response of more than 1 MB" in kubeflow.refusal("status")


@pytest.mark.parametrize(
    "host",
    [
        "http://user:s3cret-t0ken@127.0.0.1:9",
        "user:s3cret-t0ken@127.0.0.1",
        "http://user:s3cret-t0ken/@127.0.0.1:9",
    ],
)
def test_a_login_in_the_address_is_refused_and_not_shown(
    kubeflow: Kubeflow, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = kubeflow.refusal("status", host=host)
    assert "--host contains a user name or password" in said
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
    assert main(["status"]) == 2
    assert SECRET not in said


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("ftp://127.0.0.1", "is 'ftp://127.0.0.1', which is neither http:// nor https://"),
        ("file:///etc/passwd", "neither http:// nor https://"),
        ("http://", "is not a URL"),
        ("http://a b", "is not a URL"),
        ("http://127.0.0.1:port", "is not a URL"),
        ("http://a\x1b[31m\nb", "is not a URL"),
    ],
)
def test_a_bad_address_is_refused_before_compiling(
    kubeflow: Kubeflow, host: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeflow.submit._compiled", lambda _: pytest.fail("compiled"))
    said = kubeflow.refusal("submit", host=host)
    assert sentence in said
    assert said.rstrip("\n").isprintable()


def test_what_a_server_says_cannot_steer_the_terminal(uploaded: Kubeflow) -> None:
    evil = "\x1b[31mred\x1b[0m\r\nError: forged\u202e\x9b"
    uploaded.server.troubles = [
        Trouble("GET .*/pipelines$", 500, b'{"message": "%s"}' % evil.encode("utf-8"), times=1),
        Trouble("GET .*/pipelines$", 500, evil.encode("utf-8"), times=1),
    ]
    for _ in range(2):
        assert uploaded.refusal("status").rstrip("\n").isprintable()
    uploaded.server.script = ["FAILED"]
    uploaded.server.task_script = [{"Trainer": Look("FAILED")}]
    uploaded.server.logs = {"Trainer": f"Trainer failed: {evil}"}
    assert uploaded.submit("--run-name", evil) == 1
    assert uploaded("status") == 0
    for line in uploaded.out.split("\n"):
        assert line.isprintable()


@pytest.mark.slow
def test_libraries_say_nothing_when_the_server_is_dead() -> None:
    """Compiles for real, in a process of its own: TFX's loggers are on afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "kubeflow", "submit", "--host", "http://127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: Cannot reach a Kubeflow Pipelines server")
    assert len(done.stderr.splitlines()) == 1
