"""The last check before a release: a fresh process loads the model and segments one image.

``python -m pipeline.canary MODEL`` is that process. TensorFlow is all it needs, as in a server, so
an export that only works beside the code that made it fails here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline import features

TIMEOUT = 600  # seconds
_HEIGHT, _WIDTH = 96, 128  # of the canary image, pixels


class BrokenModelError(Exception):
    """A model that must not be released; the message says why."""


def check(model_path: str) -> None:
    """Loads a SavedModel in a fresh process, on the CPU, and has it segment the canary image.

    Raises:
      BrokenModelError: if it cannot be loaded, or its answer is not what the contract of
        ``serving_default`` says; one sentence.
    """
    packages = str(Path(__file__).parent.parent)
    path = os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.canary", model_path],
            env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        fault = f"it segmented no image within {TIMEOUT} s"
    else:
        if done.returncode == 0:
            return
        lines = done.stdout.strip().splitlines()
        fault = lines[-1] if lines else f"the process that loaded it ended with {done.returncode}"
    raise BrokenModelError(f"the exported model is not released, since {fault}")


def fault(model_path: str) -> str | None:
    """What is wrong with a SavedModel, in one clause; None if it segments the canary image.

    The answer must have ``mask``, uint8 [1, s, s] of class ids, and ``probabilities``, float32
    [1, s, s, 3], finite, adding up to 1 for each pixel and highest at the class of the mask.
    """
    import tensorflow as tf

    ramp = tf.linspace(0.0, 255.0, _WIDTH)[None, :, None] * tf.ones([_HEIGHT, 1, 3])
    image = tf.io.encode_jpeg(tf.cast(ramp, tf.uint8))
    try:
        model = tf.saved_model.load(model_path)
        serve = model.signatures["serving_default"]
        answer = serve(image_bytes=image[None])
        mask, probabilities = answer["mask"], answer["probabilities"]
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        what = " ".join(str(error).replace(f"{model_path}/", "").split()).rstrip(".")[:200]
        return f"it cannot be loaded and asked ({type(error).__name__}: {what})"
    size = mask.shape[-1]
    if mask.dtype != tf.uint8 or mask.shape != (1, size, size):
        return f"it answers with a mask {mask.dtype.name} {mask.shape}, not uint8 [1, s, s]"
    expected = (1, size, size, features.NUM_CLASSES)
    if probabilities.dtype != tf.float32 or probabilities.shape != expected:
        found = f"{probabilities.dtype.name} {probabilities.shape}"
        return f"it answers with probabilities {found}, not float32 {expected}"
    if not tf.reduce_all(tf.math.is_finite(probabilities)):
        return "its probabilities are not finite"
    if tf.reduce_max(tf.abs(tf.reduce_sum(probabilities, axis=-1) - 1)) > 1e-3:
        return "its probabilities do not add up to 1"
    if not tf.reduce_all(tf.cast(mask, tf.int64) == tf.argmax(probabilities, axis=-1)):
        return "its mask does not hold the most probable classes"
    return None


if __name__ == "__main__":
    found = fault(sys.argv[1])
    if found:
        print(found)
        sys.exit(1)
