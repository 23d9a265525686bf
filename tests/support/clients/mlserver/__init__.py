"""MLServer, a server of the Open Inference Protocol (v2), with ONNX Runtime in it."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.saved_model import contract

from .. import Answer, _v2

_HERE = Path(__file__).parent


@contextmanager
def serving(model: Path, threads: int = 1) -> Iterator[_v2.Server]:
    """Serves an ONNX file as ``pets`` until the end of the block.

    Args:
      model: the file.
      threads: of one operation.

    Raises:
      RuntimeError: it does not load.
      Unavailable: MLServer cannot be had.
    """
    venv = _v2.environment(_HERE)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for name in ("runtime.py", "settings.json"):
            shutil.copy(_HERE / name, work)
        settings = json.loads((_HERE / "model-settings.json").read_text())
        settings["parameters"]["extra"]["threads"] = threads
        (work / "model-settings.json").write_text(json.dumps(settings))
        shutil.copy(model, work / settings["parameters"]["uri"])
        http_port, grpc_port = _v2.free_ports()
        ports = {"MLSERVER_HTTP_PORT": str(http_port), "MLSERVER_GRPC_PORT": str(grpc_port)}
        server = _v2.Server(http_port, grpc_port, settings["name"])
        with _v2.running([venv / "bin" / "mlserver", "start", "."], work, ports, server):
            yield server


def ask(model: Path, photos: Sequence[NDArray[Any]], rounds: int = 0, threads: int = 1) -> Answer:
    """Asks an ONNX file for photos, one at a time, over REST.

    Args:
      model: the file.
      photos: decoded, RGB, uint8 [height, width, 3] each; [batch, height, width, 3]: asked for
        together.
      rounds: how often each photo is asked for against the clock, on its way as JSON included.
      threads: of one operation.

    Raises:
      RuntimeError: a photo, or the model, fails.
      Unavailable: MLServer cannot be had.
    """
    batches = [photo.reshape(-1, *photo.shape[-3:]) for photo in photos]
    with serving(model, threads) as server:
        masks = [server.ask(batch, contract.MASK)[contract.MASK] for batch in batches]
        spent = []
        for batch in batches * rounds:
            start = time.perf_counter()
            server.ask(batch, contract.MASK)
            spent.append(1000 * (time.perf_counter() - start))
        version = server.get("/v2")["version"]
    return Answer(np.concatenate(masks), statistics.median(spent) if spent else math.nan, version)
