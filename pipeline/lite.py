"""A release as a TensorFlow Lite file: ``python -m pipeline.lite --model DIR --output FILE``.

What the file takes and gives is in `pipeline.conversion`.

Exit code 0 if it was written, 1 if its masks are others, 2 for bad arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline import conversion, images


def convert(model_path: Path) -> bytes:
    """The content of the file for a released version.

    Raises:
      UserError: if the version does not say which architecture it is of.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    # Frozen first: the converter does not find the variables of Keras 3.
    function = conversion.network(model_path).get_concrete_function()
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()


def masks(content: bytes, photos: Sequence[bytes]) -> list[images.Pixels]:
    """What a file makes of encoded photos: class ids, uint8 [size, size] each."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    given = next(d for d in interpreter.get_output_details() if d["dtype"] == np.uint8)
    found = []
    for photo in photos:
        interpreter.set_tensor(taken["index"], conversion.pixels(photo, int(taken["shape"][1])))
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return conversion.main(
        argv,
        command="python -m pipeline.lite",
        name="TensorFlow Lite",
        ending=".tflite",
        convert=convert,
        masks=masks,
    )


if __name__ == "__main__":
    sys.exit(main())
