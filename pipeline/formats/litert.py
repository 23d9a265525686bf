"""Write and run LiteRT files (TensorFlow Lite's format), for phones and small devices.

TensorFlow converts the model. LiteRT's own package, `ai-edge-litert`, runs it, because `tf.lite` is
no longer maintained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core import images
from pipeline.formats import IMAGE, Output
from pipeline.saved_model import contract

if TYPE_CHECKING:  # these modules load TensorFlow and TFX
    from pipeline.formats.network import Release
    from pipeline.formats.photos import Example

# The operations of resizing and softmax stay in float32: int8 would move pixels and blur
# probabilities.
_FLOATS = (
    "BATCH_MATMUL",
    "FULLY_CONNECTED",
    "MUL",
    "DIV",
    "TRANSPOSE",
    "RESHAPE",
    "SOFTMAX",
)


def write(
    release: Release,
    path: Path,
    examples: Sequence[Example] | None = None,
    opset: int | None = None,
) -> None:
    """Writes a release as a file that takes one photo at a time.

    Args:
      release: the released version.
      path: the file to write.
      examples: calibration photos for int8; None for float32.
      opset: unused.
    """
    import tensorflow as tf

    from pipeline.formats import network

    concrete = network.function(release, batch=1).get_concrete_function()
    module = tf.Module()
    module.weights = list(concrete.variables)
    with tempfile.TemporaryDirectory() as folder:
        # The file gets named inputs and outputs only if it is converted from a SavedModel.
        tf.saved_model.save(module, folder, signatures={contract.SERVE: concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        content = converter.convert() if examples is None else _quantize(converter, examples)
        path.write_bytes(_with_metadata(content, release.metadata()))


def _with_metadata(content: bytes, facts: Mapping[str, str]) -> bytes:
    """Adds the EXIF setting to a file, if it has one."""
    if contract.EXIF not in facts:
        return content
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = contract.EXIF, len(model.buffers)
    buffer.data = list(facts[contract.EXIF].encode())
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _exif(path: Path) -> str:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes())
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name().decode() == contract.EXIF:
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return contract.AS_STORED


def _quantize(converter: Any, examples: Sequence[Example]) -> bytes:
    import tensorflow as tf

    def photos() -> Iterator[dict[str, images.Pixels]]:
        for example in examples:
            yield {IMAGE: example.pixels()[None]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = photos
    # Only the debugger can exclude types of operations from quantization.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=photos,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOATS)),
    )
    content: bytes = debugger.get_nondebug_quantized_model()
    return content


class Runner:
    """Runs a file in LiteRT's interpreter."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.exif = _exif(path)
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._runner = self._interpreter.get_signature_runner(contract.SERVE)

    def __call__(self, photos: images.Pixels) -> Output:
        """Segments photos, uint8 [batch, height, width, 3], one by one."""
        outputs = [self._runner(**{IMAGE: photo[None]}) for photo in photos]
        mask, probabilities = (
            np.concatenate([output[name] for output in outputs])
            for name in (contract.MASK, contract.PROBABILITIES)
        )
        return Output(mask, probabilities)
