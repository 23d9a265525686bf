"""Debian's packages, for the servers that tests start."""

from __future__ import annotations

import os
import shutil
import subprocess


class Unavailable(Exception):
    """No server can be had here."""


def install(*packages: str) -> None:
    """Installs packages, as root; keeps configuration files that are there.

    Raises:
      Unavailable: if that cannot be done here.
    """
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{', '.join(packages)} (Debian) must be installed, by root")
    wanted = ["apt-get", "install", "--yes", "--no-install-recommends"]
    wanted += ["--option=Dpkg::Options::=--force-confold", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (wanted, ["apt-get", "update"], wanted):
        if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
            if command == wanted:
                return
        elif command != wanted:
            raise Unavailable("apt-get reaches no package list")
    raise Unavailable(f"apt-get cannot install {', '.join(packages)}")
