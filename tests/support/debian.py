"""Debian packages, for the programs that tests start."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from tests.support import Unavailable

# Another test may be installing something: wait for it. Keep configuration files as they are.
_OPTIONS = ["--yes", "--no-install-recommends", "--option=DPkg::Lock::Timeout=300"]
_OPTIONS += ["--option=Dpkg::Options::=--force-confold"]


def install(*packages: str) -> None:
    """Installs packages, as root.

    Raises:
      Unavailable: this user or this machine cannot install them.
    """
    names = ", ".join(packages)
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{names} (Debian) must be installed by root")
    command = ["apt-get", "install", *_OPTIONS, *packages]
    # The package lists may be missing or old; if they cannot be had anew, the old ones may do.
    if not (_succeeds(command) or (_succeeds(["apt-get", "update"]) and _succeeds(command))):
        raise Unavailable(f"apt-get cannot install {names}")


def need(*programs: str, packages: Sequence[str] = (), path: str | None = None) -> None:
    """Installs packages unless all programs are there.

    Args:
      programs: names of executables.
      packages: the packages that bring them; without any, only looks.
      path: where to look, if not on PATH.

    Raises:
      Unavailable: a program is missing and cannot be installed.
    """
    missing = [program for program in programs if not shutil.which(program, path=path)]
    if not missing:
        return
    reason = f"{' and '.join(missing)} not found"
    if not packages:
        raise Unavailable(reason)
    try:
        install(*packages)
    except Unavailable as error:
        raise Unavailable(f"{reason}, and {error}") from None


def _succeeds(command: Sequence[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0
