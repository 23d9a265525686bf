"""A release as an ONNX file: ``python -m pipeline.onnx --model DIR --output FILE``.

What the file takes and gives is in `pipeline.conversion`. Needs the extra ``onnx``, which ``make``
installs and the container image leaves out.

Exit code 0 if it was written, 1 if its masks are others, 2 for bad arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import contract, conversion, images
from pipeline.errors import UserError

OPSET = 17  # of the operations; runtimes since 2022 have it


def convert(model_path: Path) -> bytes:
    """The content of the file for a released version.

    Raises:
      UserError: if the version does not say which architecture it is of, or a package is missing.
    """
    try:
        import onnxruntime  # noqa: F401  masks() needs it: said before the work is done
        import tf2onnx
    except ModuleNotFoundError as error:
        raise UserError(
            f"ONNX needs the package {error.name}; install this one with its extra 'onnx'."
        ) from error

    function = conversion.network(model_path)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    return model.SerializeToString()


def masks(content: bytes, photos: Sequence[bytes]) -> list[images.Pixels]:
    """What a file makes of encoded photos: class ids, uint8 [size, size] each."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return [
        session.run([contract.MASK], {taken.name: conversion.pixels(photo, taken.shape[1])})[0][0]
        for photo in photos
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return conversion.main(
        argv,
        command="python -m pipeline.onnx",
        name="ONNX",
        ending=".onnx",
        convert=convert,
        masks=masks,
    )


if __name__ == "__main__":
    sys.exit(main())
