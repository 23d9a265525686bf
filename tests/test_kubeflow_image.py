"""The container image, and the compiled pipeline rehearsed in it, on a Docker daemon of our own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL
from docker_daemon import Daemon, Unavailable
from mariadb import MariaDB
from mariadb import Unavailable as NoServer

from kubeflow import pods

# Long enough to be killed in the middle.
SETTINGS = (*SMALL, "train.epochs=6")
USER = 1000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # The socket's path has at most 107 characters, and pytest's folders have long names.
    folder = tmp_path_factory.mktemp("docker")
    try:
        started = Daemon(folder)
    except Unavailable as error:
        pytest.skip(f"CONTAINER IMAGE NOT TESTED: {error}")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def image(daemon: Daemon, request: pytest.FixtureRequest) -> str:
    begin = time.monotonic()
    name = daemon.build("cpu")
    seconds = time.monotonic() - begin
    size = int(daemon.docker("image", "inspect", "--format", "{{.Size}}", name).stdout)
    with request.getfixturevalue("capfd_disabled")():
        print(f"\nimage {name}: built in {seconds:.0f} s, {size / 1e9:.2f} GB", flush=True)
    return name


class Rehearsals:
    """Rehearses from the image itself, where kfp is new enough, whatever the stack of the test."""

    def __init__(self, daemon: Daemon, image: str, data: Path, output: Path, login: dict[str, str]):
        self._daemon, self._image, self._data, self._output = daemon, image, data, output
        self._environment = {pods.ENVIRONMENT[key]: value for key, value in login.items()}

    def start(self, output: Path, *overrides: str) -> subprocess.Popen[str]:
        """Starts a rehearsal with the metadata on MySQL."""
        settings = [word for each in (*SETTINGS, *overrides) for word in ("--set", each)]
        rehearse = ["python", "-m", "kubeflow", "rehearse", "--image", self._image]
        rehearse += ["--data-root", str(self._data), "--output-root", str(output), *settings]
        return self._run(output, "host", rehearse)

    def run_locally(self, output: Path) -> subprocess.Popen[str]:
        """Starts a run of the local runner in one container."""
        settings = [word for each in SETTINGS for word in ("--set", each)]
        run = ["python", "local_runner.py", "--data-root", str(self._data)]
        return self._run(output, "none", [*run, "--output-root", str(output), *settings])

    def _run(self, output: Path, network: str, command: list[str]) -> subprocess.Popen[str]:
        output.mkdir()
        os.chown(output, USER, USER)
        socket = self._daemon.socket
        options = ["--read-only", "--tmpfs=/tmp", f"--network={network}", f"--user={USER}:{USER}"]
        options += [f"--group-add={socket.stat().st_gid}"]
        options += [f"--volume={socket}:/var/run/docker.sock", f"--volume={output}:{output}"]
        options += [f"--volume={self._data}:{self._data}:ro"]
        options += [f"--env={name}={value}" for name, value in self._environment.items()]
        return self._daemon.popen("run", "--rm", *options, self._image, *command)
