"""A MariaDB server for tests: Debian's package, on loopback, with a data folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

_PACKAGES = ["mariadb-server-core", "mariadb-client-core"]  # no service, nothing that starts itself
_PROGRAMS = ["mariadbd", "mariadb-install-db", "mariadb", "my_print_defaults"]
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Unavailable(Exception):
    """No server can be had here."""


class MariaDB:
    """A running server with one empty database; `login` says how to reach it."""

    def __init__(self, folder: Path) -> None:
        """Starts the server.

        Raises:
          Unavailable: if its programs are not there and cannot be installed.
        """
        _install()
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
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            self._process = subprocess.Popen(
                [
                    *(_find("mariadbd"), "--no-defaults", f"--datadir={data}", *owner),
                    *("--bind-address=127.0.0.1", f"--port={port}", f"--socket={self._socket}"),
                    *(f"--pid-file={folder / 'pid'}", "--innodb-buffer-pool-size=32M"),
                ],
                stdout=log,
                stderr=log,
            )
        self.login = {
            "host": "127.0.0.1",
            "port": str(port),
            "database": "metadata",
            "user": "segmentation",
            "password": secrets.token_hex(16),
        }
        self._prepare()

    def stop(self) -> None:
        """Ends the server."""
        self._process.terminate()
        self._process.wait(timeout=30)

    def _prepare(self) -> None:
        user = f"'{self.login['user']}'@'127.0.0.1'"
        statements = (
            f"create database {self.login['database']};"
            f"create user {user} identified by '{self.login['password']}';"
            f"grant all on {self.login['database']}.* to {user};"
        )
        client = [_find("mariadb"), "--no-defaults", f"--socket={self._socket}", "--user=root"]
        for _ in range(300):
            if subprocess.run([*client, "-e", "select 1"], capture_output=True).returncode == 0:
                break
            if self._process.poll() is not None:
                raise RuntimeError(f"MariaDB ended: {self._log.read_text()[-2000:]}")
            time.sleep(0.1)
        subprocess.run([*client, "-e", statements], check=True)


def _find(program: str) -> str:
    path = shutil.which(program, path=_PATH)
    if path is None:
        raise Unavailable(f"{program} is missing, and apt-get cannot install {_PACKAGES}")
    return path


def _install() -> None:
    if all(shutil.which(program, path=_PATH) for program in _PROGRAMS):
        return
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{', '.join(_PACKAGES)} (Debian) must be installed, by root")
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *_PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update"], install):
        if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            if command == install:
                return
        elif command != install:
            raise Unavailable("apt-get reaches no package list")
