"""What the clients in JavaScript share: their packages, and the files of a request."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support import debian

from .. import Answer, _building

_ASKING = Path(__file__).with_name("asking.mjs")


def prepare(client: Path, work: Path) -> None:
    """Puts a client's files and packages together.

    Args:
      client: its folder in the project.
      work: the folder to fill.

    Raises:
      Unavailable: npm or the packages cannot be had.
    """
    debian.need("node", "npm")
    pins = [client / "package.json", client / "package-lock.json"]

    def install(making: Path) -> None:
        for pin in pins:
            shutil.copy(pin, making)
        # Without scripts: they would get libraries for graphics cards from elsewhere.
        command = ["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
        _building.get(command, f"the packages of {client.name}", making)

    packages = _building.kept(f"{client.name}-packages", pins, install)
    (work / "node_modules").symlink_to(packages / "node_modules")
    for source in (_ASKING, *client.glob("*.mjs"), *client.glob("*.html")):
        shutil.copy(source, work)


def request(
    work: Path, model: Path, photos: Sequence[NDArray[Any]], rounds: int, threads: int
) -> dict[str, Any]:
    """A request as both clients take it, whose files lie in `work` and are named without it."""
    shutil.copy(model, work / "model.onnx")
    files = []
    for number, photo in enumerate(photos):
        name = f"{number}.rgb"
        (work / name).write_bytes(photo.tobytes())
        files.append({"file": name, "shape": [*photo.reshape(-1, *photo.shape[-3:]).shape]})
    return {"model": "model.onnx", "photos": files, "rounds": rounds, "threads": threads}


def answer(said: dict[str, Any], contents: Sequence[bytes]) -> Answer:
    """The answer of a client.

    Args:
      said: its JSON: version, milliseconds and the shape of each mask.
      contents: the masks' bytes.
    """
    masks = [
        np.frombuffer(content, np.uint8).reshape(shape)
        for content, shape in zip(contents, said["shapes"], strict=True)
    ]
    milliseconds = said["milliseconds"]
    return Answer(
        np.concatenate(masks), math.nan if milliseconds is None else milliseconds, said["version"]
    )
