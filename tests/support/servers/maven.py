"""Jars from where Maven gets them, kept in a folder outside the project."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support import Unavailable, debian

# Kept like the Debian 13 root of .ci/debian13.sh.
STORE = Path(os.environ.get("MAVEN_STORE", "/var/cache/segmentation-pipeline/maven"))

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>segmentation</groupId><artifactId>flink</artifactId><version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def job_server(flink: str) -> Path:
    """The jar of Beam's job server for Flink, of the Beam that is installed.

    Args:
      flink: its version, such as "1.18".

    Raises:
      Unavailable: if Maven cannot get it.
    """
    beam = importlib.metadata.version("apache-beam")
    return jar("org.apache.beam", f"beam-runners-flink-{flink}-job-server", beam)


def jar(group: str, name: str, version: str) -> Path:
    """One jar, without what it needs.

    Raises:
      Unavailable: if Maven cannot get it.
    """
    file = STORE / "repository" / group.replace(".", "/") / name / version / f"{name}-{version}.jar"
    if not file.exists():
        artifact = f"{group}:{name}:{version}"
        _call(f"{_PLUGIN}:get", f"-Dartifact={artifact}", "-Dtransitive=false", wanted=artifact)
    return file


def flink(version: str) -> Path:
    """A folder with the jars of a Flink cluster.

    Args:
      version: without its last number, such as "1.18"; Beam's job servers are built with the first.

    Raises:
      Unavailable: if Maven cannot get them.
    """
    folder = STORE / f"flink-{version}.0"
    if folder.exists():
        return folder
    needed = [
        ("org.apache.flink", "flink-clients", f"{version}.0"),
        ("org.apache.flink", "flink-runtime-web", f"{version}.0"),
        ("org.slf4j", "slf4j-simple", "1.7.36"),
    ]
    STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORE) as making:
        pom = Path(making, "pom.xml")
        pom.write_text(_POM.format(dependencies="".join(_DEPENDENCY.format(*n) for n in needed)))
        jars = Path(making, "jars")
        arguments = (f"-DoutputDirectory={jars}", "-DincludeScope=runtime")
        goal = f"{_PLUGIN}:copy-dependencies"
        _call("-f", str(pom), goal, *arguments, wanted=f"org.apache.flink, {version}.0")
        try:
            jars.rename(folder)  # a folder that exists is a whole one
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    return folder


def _call(*arguments: str, wanted: str) -> None:
    debian.need("mvn", "java", packages=["default-jre-headless", "maven"])
    STORE.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "--batch-mode", "--quiet", "--update-snapshots"]
    command.append(f"-Dmaven.repo.local={STORE / 'repository'}")
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Maven did not get {wanted} in ten minutes") from None
    if done.returncode:
        reason = done.stdout.partition("[ERROR] ")[2].partition("\n")[0] or done.stderr[-400:]
        raise Unavailable(f"Maven did not get {wanted}: {reason[:600]}")
