"""ONNX Runtime for Java."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.saved_model import contract

from .. import Answer, _java

_HERE = Path(__file__).parent


def ask(model: Path, photos: Sequence[NDArray[Any]], rounds: int = 0, threads: int = 1) -> Answer:
    """Asks an ONNX file for photos, one at a time.

    Args:
      model: the file.
      photos: decoded, RGB, uint8 [height, width, 3] each; [batch, height, width, 3]: asked for
        together.
      rounds: how often each photo is asked for against the clock.
      threads: of one operation.

    Raises:
      RuntimeError: a photo, or the model, fails.
      Unavailable: Java, Maven or ONNX Runtime cannot be had.
    """

    def fields(folder: Path) -> list[list[str]]:
        lines = []
        for number, photo in enumerate(photos):
            file = folder / f"{number}.rgb"
            file.write_bytes(photo.tobytes())
            batch = photo.reshape(-1, *photo.shape[-3:])
            lines.append([str(model), str(file), *map(str, batch.shape[:3])])
        return lines

    said = _java.ask(_HERE, fields, rounds, threads)
    for reply in said.replies:
        if reply.error:
            raise RuntimeError(reply.error)
    masks = np.concatenate([reply.outputs[contract.MASK] for reply in said.replies])
    return Answer(masks, said.milliseconds, said.version)
