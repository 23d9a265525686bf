"""Connections that are silent, slow or too many, at a server with little patience and no model."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipeline.inference import web_server
from tests.support.runs import ROOT

pytestmark = pytest.mark.once
SERVER = "tests.support.programs.impatient_server"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """That of a server that may open few files, and says nothing."""
    with subprocess.Popen(
        ["sh", "-c", 'ulimit -n 40; exec "$@"', "sh", sys.executable, "-m", SERVER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
            errors = process.stderr.read()
    assert errors == ""


def opened(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(data)
    return connection


def ended_after(connection: socket.socket, drip: bytes = b"") -> float:
    """Seconds until the other side gives the connection up; sends `drip` again and again."""
    begin = time.monotonic()
    connection.settimeout(0.2)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - begin < 10:
            with contextlib.suppress(TimeoutError):
                connection.sendall(drip)
                if not connection.recv(1000):
                    break
    connection.close()
    return time.monotonic() - begin


def answers(port: int) -> bool:
    with opened(port, WHOLE) as connection:
        return connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HALF], ids=["nothing", "header", "body"])
def test_silence_ends_a_connection(port: int, sent: bytes) -> None:
    assert 0.3 < ended_after(opened(port, sent)) < 5


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", HALF], ids=["header", "body"]
)
def test_dripping_ends_a_connection(port: int, sent: bytes) -> None:
    assert 0.8 < ended_after(opened(port, sent), drip=b"x") < 5


def test_an_answer_that_nobody_takes_ends_a_connection(port: int) -> None:
    connection = opened(port, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1)
    taken = 0
    with contextlib.suppress(ConnectionError):
        while block := connection.recv(1 << 20):
            taken += len(block)
    connection.close()
    assert taken < 30_000_000


def test_a_second_request_has_its_own_time(port: int) -> None:
    with opened(port, WHOLE) as connection:
        for _ in range(6):  # longer than one request may take
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += (received := connection.recv(1000))
                assert received
            time.sleep(0.3)
            connection.sendall(WHOLE)


def test_the_newest_is_served_however_many_wait(port: int) -> None:
    held = []
    for _ in range(100):
        with contextlib.suppress(ConnectionError):
            held.append(opened(port, HALF))
    assert answers(port)
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01 no HTTP\r\n\r\n", WHOLE + b"\0\0\r\n\r\n", HALF], ids=str
)
def test_nonsense_and_aborts_are_not_worth_a_word(port: int, noise: bytes) -> None:
    """The fixture looks at what the server said."""
    for _ in range(10):
        opened(port, noise).close()
    assert answers(port)


def test_a_lack_of_descriptors_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    handle = web_server.ErrorHandler()
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for _ in range(1000):
            handle(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "many")})
    assert capsys.readouterr().err.count("\n") == 1
