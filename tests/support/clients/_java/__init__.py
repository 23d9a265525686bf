"""What the clients in Java share: how they are built, called and understood."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support import debian

from .. import _building

_PACKAGES = ["default-jdk-headless", "maven"]
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_CLIENT = Path(__file__).with_name("Client.java")
_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "BOOL": np.bool_, "STRING": np.object_}


@dataclass
class Reply:
    """The outcome of one request."""

    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)  # strings: object, of bytes
    error: str = ""


@dataclass(frozen=True)
class Replies:
    """What a program said in one go."""

    replies: list[Reply]
    milliseconds: float  # median of all requests that did not fail; NaN if there were no rounds
    version: str  # of the runtime


def ask(
    folder: Path, requests: Callable[[Path], Sequence[Sequence[Any]]], rounds: int, threads: int
) -> Replies:
    """Asks a program all requests in one process.

    Args:
      folder: the program's, with Ask.java and pom.xml.
      requests: writes what they need into a folder; returns each one's fields (see Ask.java).
      rounds: how often each request is asked against the clock, after it was answered once.
      threads: for the runtime.

    Raises:
      Unavailable: Java, Maven or the libraries cannot be had.
    """
    libraries, classes = _build(folder)
    with tempfile.TemporaryDirectory() as temporary:
        lines = ["\t".join(map(str, fields)) for fields in requests(Path(temporary))]
        file, answers = Path(temporary, "requests"), Path(temporary, "answers")
        file.write_text("".join(f"{line}\n" for line in lines))
        answers.mkdir()
        said = _building.run(
            [
                "java",
                # JavaCPP unpacks its libraries once; it has a lock of its own.
                f"-Dorg.bytedeco.javacpp.cachedir={_building.STORE / 'javacpp'}",
                *("-cp", f"{libraries}/*:{classes}", "Ask"),
                *("--rounds", str(rounds), "--threads", str(threads)),
                *(file, answers),
            ]
        )
        return _understand(said, len(lines), answers)


def _build(folder: Path) -> tuple[Path, Path]:
    """The folders of the jars and of the classes."""
    debian.need("java", "javac", "mvn", packages=_PACKAGES)
    pom, sources = folder / "pom.xml", [_CLIENT, folder / "Ask.java"]

    def copy(making: Path) -> None:
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), _COPY]
        _building.get([*command, f"-DoutputDirectory={making}"], f"the jars of {folder.name}")

    libraries = _building.kept(f"{folder.name}-jars", [pom], copy)
    classes = _building.kept(
        f"{folder.name}-classes",
        [pom, *sources],
        lambda making: _building.run(["javac", "-d", making, "-cp", f"{libraries}/*", *sources]),
    )
    return libraries, classes


def _understand(said: str, count: int, answers: Path) -> Replies:
    replies, milliseconds, version = [Reply() for _ in range(count)], math.nan, ""
    for line in said.splitlines():
        match line.split("\t"):
            case ["output", number, name, kind, shape]:
                outputs = replies[int(number)].outputs
                outputs[name] = _read(answers / f"{number}.{name}", kind, shape)
            case ["failed", number, message]:
                replies[int(number)].error = message
            case ["median", value, *_]:
                milliseconds = float(value)
            case ["version", value]:
                version = value
            case _:
                raise RuntimeError(f"Ask.java said {line!r}")
    return Replies(replies, milliseconds, version)


def _read(file: Path, kind: str, shape: str) -> NDArray[Any]:
    sizes = [int(size) for size in shape.split(",")]
    dtype = _TYPES[kind.removeprefix("DT_")]
    if dtype != np.object_:
        return np.frombuffer(file.read_bytes(), dtype).reshape(sizes)
    strings = np.empty(math.prod(sizes), dtype)
    strings[:] = list(_strings(file, strings.size))
    return strings.reshape(sizes)


def _strings(file: Path, count: int) -> Iterator[bytes]:
    return (file.with_name(f"{file.name}.{number}").read_bytes() for number in range(count))
