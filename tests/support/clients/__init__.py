"""Programs that nobody here wrote around a release, from a few lines each and public packages.

One folder each, with the program, the versions it is pinned to and how Python calls it:

* `tfjava`: TensorFlow Java, TensorFlow's own session loader, asks the SavedModel;
* `ortjava`: ONNX Runtime for Java asks the ONNX file;
* `node`: onnxruntime-node does;
* `web`: onnxruntime-web does, on WebAssembly in Chromium;
* `mlserver`: MLServer serves it by the Open Inference Protocol;
* `triton`: so does Triton, a whole model repository.

All but the last have ``ask(model, photos, rounds=0, threads=1) -> Answer``. The first call builds
the program in the user's cache folder (CLIENTS_STORE names another); all of them take a minute or
two and 1.9 GB. A JDK, Maven or Chromium that is missing is installed by apt-get where the user is
is root; else the client is `tests.support.Unavailable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """What a client made of photos that it was asked for one at a time."""

    masks: NDArray[Any]  # class ids, uint8 [photos, size, size]
    milliseconds: float  # median time of the model for one photo; NaN if there were no rounds
    version: str  # of the runtime
