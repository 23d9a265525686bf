"""LiteRT files (TensorFlow Lite's format), for telephones and small devices.

TensorFlow converts; LiteRT's own package, `ai-edge-litert`, runs them, since `tf.lite` is no longer
kept up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core import images
from pipeline.formats import IMAGE, Answer
from pipeline.saved_model import contract

if TYPE_CHECKING:  # they load TensorFlow and TFX
    from pipeline.formats.network import Release
    from pipeline.formats.photos import Example

# Resizing and the softmax: eight bits would move pixels, and blur probabilities.
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
    """Writes the file of a release, which takes one photo at a time.

    Args:
      release: of which version.
      path: the file.
      examples: whose photos 8 bits are calibrated on; None: as floats.
      opset: not of this format.
    """
    import tensorflow as tf

    from pipeline.formats import network

    concrete = network.function(release, batch=1).get_concrete_function()
    module = tf.Module()
    module.weights = list(concrete.variables)
    with tempfile.TemporaryDirectory() as folder:
        # From a SavedModel: only then the file has the names of inputs and outputs.
        tf.saved_model.save(module, folder, signatures={contract.SERVE: concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        made = converter.convert() if examples is None else _quantize(converter, examples)
        path.write_bytes(_described(made, release.metadata()))


def _described(made: bytes, facts: Mapping[str, str]) -> bytes:
    """A file with what must be known to ask it; the format has no place that runners show."""
    if contract.EXIF not in facts:
        return made
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(made))
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
    # The one way to leave operations of a kind as floats.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=photos,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOATS)),
    )
    return debugger.get_nondebug_quantized_model()


class Runner:
    """Asks a file through LiteRT's interpreter."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.exif = _exif(path)
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._runner = self._interpreter.get_signature_runner(contract.SERVE)

    def __call__(self, photos: images.Pixels) -> Answer:
        """Segments photos, uint8 [batch, h, w, 3], one after the other."""
        answers = [self._runner(**{IMAGE: photo[None]}) for photo in photos]
        mask, probabilities = (
            np.concatenate([answer[name] for answer in answers])
            for name in (contract.MASK, contract.PROBABILITIES)
        )
        return Answer(mask, probabilities)
