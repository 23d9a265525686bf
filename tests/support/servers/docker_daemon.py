"""A Docker daemon for tests: Debian's package, with its own folders and socket."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock

from tests.support import Unavailable, debian
from tests.support.runs import ROOT

# Kept like the Debian 13 root of .ci/debian13.sh: layers that fit are not built again.
STORE = Path(os.environ.get("DOCKER_STORE", "/var/cache/segmentation-pipeline/docker"))
BASE = "segmentation-base:trixie"
_BRIDGE = "segmentation0"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Daemon:
    """A running daemon, at `socket`. Containers have the host's network or none, or a bridge."""

    def __init__(self, folder: Path, bridge: bool = False) -> None:
        """Starts the daemon.

        Args:
          folder: for its files; with a short path, since that of the socket is limited.
          bridge: containers may have a network of their own, and publish ports.

        Raises:
          Unavailable: if it is not installed and cannot be, or does not start.
        """
        if os.getuid() != 0 or not _at_real_root():
            raise Unavailable("it takes root, and no chroot")
        _install()
        STORE.mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(STORE.with_suffix(".lock"))
        self._lock.acquire()
        self._folder = folder
        self.socket = folder / "socket"
        self._bridge = bridge
        if bridge:
            try:
                _make_bridge()
            except Unavailable:
                self._lock.release()
                raise
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--data-root", STORE, "--exec-root", folder / "exec"),
                    *("--pidfile", folder / "pid", "--host", f"unix://{self.socket}"),
                    *("--iptables=false", "--ip6tables=false"),
                    f"--bridge={_BRIDGE if bridge else 'none'}",
                ],
                env={**os.environ, "PATH": _PATH},
                stdout=log,
                stderr=log,
            )
        for _ in range(300):
            if self.socket.exists() and self.docker("info", check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        raise Unavailable(f"dockerd did not start: {(folder / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """Ends the daemon; what it has built stays in the store."""
        self._process.terminate()
        self._process.wait(timeout=60)
        if self._bridge:
            namespace = self._folder / "exec" / "netns" / "default"
            subprocess.run(["umount", namespace], capture_output=True)
            _remove_bridge()
        self._lock.release()

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Calls Docker's client."""
        return subprocess.run(
            [_client(), *arguments],
            env=self._environment(),
            check=check,
            capture_output=True,
            text=True,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same without waiting; standard error and output come as one."""
        return subprocess.Popen(
            [_client(), *arguments],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def build(self, target: str) -> str:
        """Builds the Dockerfile's target; returns the image's name."""
        self._import_base()
        image = f"segmentation-pipeline:{target}"
        settings = self._folder / "pip.conf"
        settings.write_text(_pip_settings())
        certificates = os.environ.get("SSL_CERT_FILE", _BUNDLE)
        secrets = {"pip_conf": str(settings), "ca": certificates}
        command = [_client(), "build", "--network=host", "--target", target, "--tag", image]
        command += ["--build-arg", f"BASE={BASE}"]
        for name in ("http_proxy", "https_proxy", "no_proxy"):
            if os.environ.get(name):
                command += ["--build-arg", name]
        for key, path in secrets.items():
            if Path(path).exists():
                command += ["--secret", f"id={key},src={path}"]
        done = subprocess.run(
            [*command, str(ROOT)], env=self._environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-5000:]
        # What an older Dockerfile, lock or code left behind.
        self.docker("image", "prune", "--force")
        self.docker("builder", "prune", "--force", "--keep-storage", "12GB")
        return image

    def _import_base(self) -> None:
        if self.docker("image", "inspect", BASE, check=False).returncode == 0:
            return
        root = self._folder / "base"
        subprocess.run([ROOT / ".ci" / "debian13.sh", "--bare", root], check=True)
        with subprocess.Popen(
            ["tar", "-C", root, "--exclude=./var/lib/apt/lists/*", "-c", "."],
            stdout=subprocess.PIPE,
        ) as tar:
            subprocess.run(
                [_client(), "import", "-", BASE],
                stdin=tar.stdout,
                env=self._environment(),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        assert tar.returncode == 0
        shutil.rmtree(root)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "1"}


def _make_bridge() -> None:
    """Makes a bridge of the tests' own, so that another daemon's docker0 is left alone."""
    _remove_bridge()  # one that a killed process has left behind
    for command in (
        ("link", "add", _BRIDGE, "type", "bridge"),
        ("addr", "add", "172.30.253.1/24", "dev", _BRIDGE),
        ("link", "set", _BRIDGE, "up"),
    ):
        try:
            _ip(*command).check_returncode()
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"no network bridge can be made: {error}") from None


def _remove_bridge() -> None:
    with contextlib.suppress(OSError):
        _ip("link", "delete", _BRIDGE)


def _ip(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PATH": _PATH}
    return subprocess.run(["ip", *arguments], env=environment, capture_output=True)


def _at_real_root() -> bool:
    """Whether / is a mount, as it is everywhere but in a chroot to a plain folder."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" for line in mounts)


def _install() -> None:
    debian.need("dockerd", packages=["docker.io"], path=_PATH)
    _client()


def _client() -> str:
    """A Docker client that can hand secrets to a build; the first on PATH need not be one."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for client in ("/usr/bin/docker", shutil.which("docker")):
        if client and Path(client).exists():
            told = subprocess.run([client, "build", "--help"], env=environment, capture_output=True)
            if b"--secret" in told.stdout:
                return client
    raise Unavailable("the Docker client here builds no secrets in: docker-buildx is missing")


def _pip_settings() -> str:
    """What pip is told here, in one file: where packages come from, and how long to wait."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    values: dict[str, str] = {}
    for section in ("global", ":env:"):  # the environment wins
        values |= re.findall(rf"^{section}\.(\S+)='(.*)'$", listed.stdout, re.MULTILINE)
    wanted = ("index-url", "extra-index-url", "trusted-host", "default-timeout")
    lines = [f"{key} = {values[key]}" for key in wanted if key in values]
    if Path(os.environ.get("SSL_CERT_FILE", _BUNDLE)).exists():
        lines.append(f"cert = {_BUNDLE}")
    return "\n".join(["[global]", *lines, ""])
