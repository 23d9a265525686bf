"""A release as a TensorFlow Lite file: ``python -m pipeline.lite --model DIR --output FILE``.

The file takes ``image``, uint8 [1, size, size, 3], a photo that was decoded and resized as
`pipeline.preprocessing` does, and gives ``mask``, class ids, uint8 [1, size, size], and
``probabilities``, float32 [1, size, size, 3]. Decoding stays outside, since TensorFlow Lite has no
operation for it. Before it is written its masks are compared with the SavedModel's on the built-in
photos.

Exit code 0 if it was written, 1 if its masks are others, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline import builtin_data, console, contract, images
from pipeline.arguments import Parser
from pipeline.errors import UserError
from pipeline.segmenter import Segmenter, find_saved_model, native_noise_held_back

DONE, OTHER_MASKS, USER_ERROR = 0, 1, 2
LEAST_AGREEMENT = 0.999  # share of pixels; rounding decides where two classes are as probable
PHOTOS = 16


def convert(model_path: Path) -> bytes:
    """The content of the file for a released version.

    Raises:
      UserError: if the version does not say which architecture it is of.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    from pipeline import export, models, preprocessing

    record = model_path / "assets.extra" / "release.json"
    if not record.exists():
        raise UserError(f"{model_path} has no {record.name}; give a version that was released.")
    settings = json.loads(record.read_text())["settings"]
    size = settings["transform.image_size"]
    # A release from before there was a width has none in its record.
    model = models.build(settings["model.name"], size, width=settings.get("model.width", 1.0))
    export.load_weights(model, str(model_path))

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.uint8, name="image")])
    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(preprocessing.rescale(image), training=False)
        mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {contract.MASK: mask, contract.PROBABILITIES: probabilities}

    # Frozen first: the converter does not find the variables of Keras 3.
    frozen = convert_to_constants.convert_variables_to_constants_v2(segment.get_concrete_function())
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()


def masks(content: bytes, photos: Sequence[bytes]) -> list[images.Pixels]:
    """What a file makes of encoded photos: class ids, uint8 [size, size] each."""
    import tensorflow as tf

    from pipeline import preprocessing

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    given = next(d for d in interpreter.get_output_details() if d["dtype"] == np.uint8)
    found = []
    for photo in photos:
        pixels = preprocessing.decode_image(tf.constant(photo))
        resized = preprocessing.resize_image(pixels, int(taken["shape"][1]))
        interpreter.set_tensor(taken["index"], resized.numpy()[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        arguments = _parse(argv)
        model_path = find_saved_model(arguments.model)
        with native_noise_held_back():
            content = convert(model_path)
            agreement = _agreement(content, model_path)
    except UserError as error:
        console.complain(str(error))
        return USER_ERROR
    if agreement < LEAST_AGREEMENT:
        console.complain(
            f"Nothing was written: the masks of {model_path} and of its conversion agree on "
            f"{agreement:.2%} of the pixels."
        )
        return OTHER_MASKS
    images.write_atomically(arguments.output, content)
    print(
        f"{arguments.output}: {len(content) / 1e6:.1f} MB, agrees with {model_path} on "
        f"{agreement:.3%} of the pixels of {PHOTOS} photos."
    )
    return DONE


def _agreement(content: bytes, model_path: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        builtin_data.generate(Path(folder), count=PHOTOS, seed=5)
        photos = [p.read_bytes() for p in sorted(Path(folder, "images").iterdir())]
    expected = [answer.mask for answer in Segmenter(model_path).predict(photos)]
    return float(np.mean([a == b for a, b in zip(masks(content, photos), expected, strict=True)]))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipeline.lite",
        description="Writes a released model as a TensorFlow Lite file, after comparing the masks.",
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a released version, or a model's serving folder (its newest version is taken)",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help="the file, ending in .tflite"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
