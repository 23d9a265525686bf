"""TensorFlow Java: the session loader in C++, which TensorFlow Serving, C, Go and Rust use too."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.saved_model import contract
from tests.support import Unavailable

from .. import Answer, _java
from .._java import Replies

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Request:
    """One batch for one signature."""

    model: Path  # a SavedModel
    photos: Sequence[bytes]  # encoded, or anything
    signature: str = contract.SERVE


def ask_all(requests: Sequence[Request], rounds: int = 0, threads: int = 1) -> Replies:
    """Asks in one process, one request after the other, whatever becomes of the one before.

    Args:
      requests: of any models.
      rounds: how often each request is asked against the clock.
      threads: of TensorFlow, between and within operations.

    Raises:
      Unavailable: Java, Maven or TensorFlow Java cannot be had.
    """
    machine = f"{platform.system()} {platform.machine()}"
    if machine != "Linux x86_64":  # as pom.xml has it
        raise Unavailable(f"TensorFlow Java is not built for {machine} here")

    def fields(folder: Path) -> list[list[str]]:
        lines = []
        for number, request in enumerate(requests):
            lines.append([str(request.model), request.signature])
            for place, photo in enumerate(request.photos):
                file = folder / f"{number}.{place}.photo"
                file.write_bytes(photo)
                lines[-1].append(str(file))
        return lines

    return _java.ask(_HERE, fields, rounds, threads)


def ask(model: Path, photos: Sequence[bytes], rounds: int = 0, threads: int = 1) -> Answer:
    """Asks `serving_default` of a SavedModel for encoded photos, one at a time.

    Raises:
      RuntimeError: a photo, or the model, fails.
      Unavailable: see `ask_all`.
    """
    said = ask_all([Request(model, [photo]) for photo in photos], rounds, threads)
    for reply in said.replies:
        if reply.error:
            raise RuntimeError(reply.error)
    masks = np.concatenate([reply.outputs[contract.MASK] for reply in said.replies])
    return Answer(masks, said.milliseconds, said.version)
