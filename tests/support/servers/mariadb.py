"""A MariaDB server for tests: Debian's package, on loopback, with a data folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from tests.support import Unavailable, debian
from tests.support.ports import free_port

_PACKAGES = ["mariadb-server-core", "mariadb-client-core"]  # no service, nothing that starts itself
_PROGRAMS = ["mariadbd", "mariadb-install-db", "mariadb", "my_print_defaults"]
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


class MariaDB:
    """A running server with one empty database; `login` says how to reach it."""

    def __init__(self, folder: Path) -> None:
        """Starts the server.

        Raises:
          Unavailable: if its programs are not there and cannot be installed.
        """
        debian.need(*_PROGRAMS, packages=_PACKAGES, path=_PATH)
        data, self._socket = folder / "data", folder / "socket"
        owner = ["--user=root"] if os.getuid() == 0 else []
        self._log = folder / "log"
        with self._log.open("wb") as log:
            subprocess.run(
                [
                    *(_find("mariadb-install-db"), "--no-defaults", f"--datadir={data}", *owner),
                    *("--auth-root-authentication-method=normal", "--skip-test-db"),
                ],
                check=True,
                stdout=log,
                stderr=log,
            )
            port = free_port()
        self._command = [
            *(_find("mariadbd"), "--no-defaults", f"--datadir={data}", *owner),
            *("--bind-address=127.0.0.1", f"--port={port}", f"--socket={self._socket}"),
            *(f"--pid-file={folder / 'pid'}", "--innodb-buffer-pool-size=32M"),
        ]
        self._process = self._start()
        self.login = {
            "host": "127.0.0.1",
            "port": str(port),
            "database": "metadata",
            "user": "segmentation",
            "password": secrets.token_hex(16),
        }
        self._prepare()

    def restart(self, *options: str) -> None:
        """Ends the server, and starts it with options, such as ``--ssl-cert=FILE``."""
        self.stop()
        self._process = self._start(*options)
        self._wait()

    def sql(self, statements: str) -> None:
        """Runs statements as the server's owner."""
        subprocess.run([*self._client(), "-e", statements], check=True)

    def stop(self) -> None:
        """Ends the server."""
        self._process.terminate()
        self._process.wait(timeout=30)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        options = options or ("--skip-ssl",)  # MariaDB 11.4 and later make a certificate themselves
        with self._log.open("ab") as log:
            return subprocess.Popen([*self._command, *options], stdout=log, stderr=log)

    def _client(self) -> list[str]:
        by_socket = [f"--socket={self._socket}", "--user=root", "--skip-ssl"]
        return [_find("mariadb"), "--no-defaults", *by_socket]

    def _wait(self) -> None:
        for _ in range(300):
            asked = [*self._client(), "-e", "select 1"]
            if subprocess.run(asked, capture_output=True).returncode == 0:
                return
            if self._process.poll() is not None:
                raise RuntimeError(f"MariaDB ended: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _prepare(self) -> None:
        self._wait()
        user = f"'{self.login['user']}'@'127.0.0.1'"
        self.sql(
            f"create database {self.login['database']};"
            f"create user {user} identified by '{self.login['password']}';"
            f"grant all on {self.login['database']}.* to {user};"
        )


def _find(program: str) -> str:
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise Unavailable(f"{program} is missing, and apt-get cannot install {_PACKAGES}")
    return path
