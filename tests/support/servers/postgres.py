"""A PostgreSQL server for tests: Debian's package, on loopback, with a data folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import Unavailable
from tests.support.debian import install
from tests.support.servers.certificates import Authority

_CONFIGURATION = Path("/etc/postgresql-common/createcluster.conf")


class PostgreSQL:
    """A running server with one empty database, whose owner logs in with SCRAM."""

    def __init__(self, folder: Path) -> None:
        """Starts the server, without TLS.

        Args:
          folder: for the certificates of an authority of its own, `ca.crt`, and of a user.

        Raises:
          Unavailable: if its programs are not there and cannot be installed.
        """
        self._programs = _programs()
        # It refuses to run as root, and pytest's folders are root's alone.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._user = {"user": "nobody"} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(self._folder, "nobody")
        self.certificates = folder
        authority = Authority(folder)
        authority.sign(folder, "segmentation")
        authority.sign(self._folder, "server", "localhost")
        for file in ("tls.crt", "tls.key"):
            shutil.chown(self._folder / file, self._user.get("user", os.getuid()))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.login = {
            "host": "127.0.0.1",
            "port": str(port),
            "database": "metadata",
            "user": "segmentation",
            # What would end the value in a connection string that does not quote it.
            "password": f"{secrets.token_hex(8)} ' \\ host=elsewhere",
        }
        self._run("initdb", "--no-sync", "--auth=trust", f"--pgdata={self._folder / 'data'}")
        hosts = self._folder / "data" / "pg_hba.conf"
        hosts.write_text(
            "local all all trust\n"
            "hostssl all secure 127.0.0.1/32 scram-sha-256\n"
            "hostssl all shown 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
            "host all segmentation,stranger 127.0.0.1/32 scram-sha-256\n"
        )
        self._process = self._start()
        quoted = self.login["password"].replace("'", "''")
        for name in ("segmentation", "secure", "shown", "stranger"):
            self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{quoted}'")
        self.sql("CREATE DATABASE metadata OWNER segmentation")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Runs a statement as the server's owner; returns what it printed."""
        command = ["--no-psqlrc", "--tuples-only", "--no-align", f"--host={self._folder}"]
        command += [f"--port={self.login['port']}", f"--dbname={database}"]
        return self._run("psql", *command, "--command", statement)

    def restart(self, *options: str) -> None:
        """Ends the server, and starts it with other options, such as ``ssl=on``."""
        self._end()
        self._process = self._start(*options)

    def with_tls(self) -> None:
        """Restarts it with a certificate for localhost, not for 127.0.0.1."""
        files = {"ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"}
        paths = [f"{name}={self._folder / file}" for name, file in files.items()]
        authority = self._folder / "ca.crt"
        shutil.copy(self.certificates / "ca.crt", authority)
        self.restart("ssl=on", *paths, f"ssl_ca_file={authority}")

    def stop(self) -> None:
        """Ends the server, and removes what it kept."""
        self._end()
        shutil.rmtree(self._folder)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data")]
        for option in (
            "listen_addresses=127.0.0.1",
            f"port={self.login['port']}",
            f"unix_socket_directories={self._folder}",
            "fsync=off",
            *options,
        ):
            command += ["-c", option]
        log = self._folder / "log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, cwd=self._folder, **self._user_arguments()
            )
        for _ in range(300):
            with socket.socket() as probe:
                ready = probe.connect_ex(("127.0.0.1", int(self.login["port"]))) == 0
            if ready and "ready to accept connections" in log.read_text().rpartition("starting")[2]:
                return process
            if process.poll() is not None:
                raise RuntimeError(f"PostgreSQL ended: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL does not start: {log.read_text()[-2000:]}")

    def _end(self) -> None:
        self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        self._process.wait(timeout=30)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self._folder,
            **self._user_arguments(),
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
        output: str = done.stdout.strip()
        return output

    def _user_arguments(self) -> dict[str, Any]:
        return {**self._user, "group": "nogroup", "extra_groups": []} if self._user else {}


def _programs() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    if not (found := _installed()):
        if os.getuid() == 0 and not _CONFIGURATION.exists():
            # So that the package makes and starts no server of its own.
            _CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
            _CONFIGURATION.write_text("create_main_cluster = false\n")
        install("postgresql")
        found = _installed()
    if not found:
        raise Unavailable("the package postgresql brought no initdb")
    return found[-1]


def _installed() -> list[Path]:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    return [path.parent for path in debian]
