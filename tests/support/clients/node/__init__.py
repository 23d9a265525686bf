"""onnxruntime-node, on the machine's own Node."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .. import Answer, _building, _js

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
      Unavailable: Node, npm or onnxruntime-node cannot be had.
    """
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        _js.prepare(_HERE, work)
        request = _js.request(work, model, photos, rounds, threads)
        (work / "request.json").write_text(json.dumps(request))
        said = json.loads(_building.run(["node", work / "ask.mjs", work]))
        contents = [(work / f"{number}.mask").read_bytes() for number in range(len(photos))]
        return _js.answer(said, contents)
