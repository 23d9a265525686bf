"""The metadata store of the tasks: what is refused before a server is asked, and the relay."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from kubeflow import databases, metadata
from pipeline.core.errors import UserError
from tests.support.kfp.metadata import environment


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_what_the_secret_lacks_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs METADATA_PASSWORD in the environment"):
        metadata.open_store(kind, tmp_path, environment=environment(password=""))
    with pytest.raises(UserError, match="METADATA_PORT is 'x'; it must be a number"):
        metadata.open_store(kind, tmp_path, environment=environment(port="x"))


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
@pytest.mark.parametrize("tls", ["off", "require"])
def test_a_dead_metadata_server_is_named(kind: str, tls: str, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"server 127\.0\.0\.1:1 cannot be reached \(Connect"):
        metadata.open_store(kind, tmp_path, tls, environment())


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
@pytest.mark.parametrize("tls", ["off", "require"])
def test_a_server_of_something_else_is_one_sentence(kind: str, tls: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])

        def answer() -> None:
            for _ in range(2):
                connection = listening.accept()[0]
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises((UserError, ConnectionError), match=f"server 127.0.0.1:{port} "):
            metadata.open_store(kind, tmp_path, tls, environment(port=port))


def test_the_remedy_is_one_that_the_server_has() -> None:
    """By version; of these only 8.0 was there to try."""
    old = databases.plugin_remedy("'u'@'%'", "8.0.15")
    assert old.startswith("run ALTER USER 'u'@'%' IDENTIFIED WITH mysql_native_password BY ")
    assert databases.plugin_remedy("u", "8.4.3").startswith("start it with --mysql-native-pass")
    newest = databases.plugin_remedy("u", "9.1.0-commercial")
    assert "IDENTIFIED WITH" not in newest
    assert "use PostgreSQL (metadata.kind=postgresql), MySQL 8.4 or MariaDB" in newest


# What servers refuse


def test_the_relay_ends_with_its_process(tmp_path: Path) -> None:
    from kubeflow import tls_relay

    path = tls_relay.start("mysql", "127.0.0.1", 1, "require", tmp_path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    relay = tls_relay._running.pop()
    assert relay.poll() is None
    assert relay.stdin is not None
    relay.stdin.close()  # as the end of this process does
    assert relay.wait(timeout=10) == 0
