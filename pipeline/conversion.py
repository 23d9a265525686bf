"""A release as one file of another format: what `pipeline.lite` and `pipeline.onnx` share.

A file takes ``image``, uint8 [1, size, size, 3], a photo that was decoded and resized as
`pipeline.preprocessing` does, and gives ``mask``, class ids, uint8 [1, size, size], and
``probabilities``, float32 [1, size, size, 3]. Decoding stays outside, since neither format has an
operation for it. Before a file is written its masks are compared with the SavedModel's on the
built-in photos.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import builtin_data, console, contract, images
from pipeline.arguments import Parser
from pipeline.errors import UserError
from pipeline.segmenter import Segmenter, find_saved_model, native_noise_held_back

DONE, OTHER_MASKS, USER_ERROR = 0, 1, 2
LEAST_AGREEMENT = 0.999  # share of pixels; rounding decides where two classes are as probable
PHOTOS = 16
IMAGE = "image"  # the input


def network(model_path: Path) -> Any:
    """What a file holds of a released version, as a ``tf.function`` with a fixed signature.

    Raises:
      UserError: if the version does not say which architecture it is of.
    """
    import tensorflow as tf

    from pipeline import export, models, preprocessing, serving

    record = model_path / serving.RECORD
    if not record.exists():
        raise UserError(f"{model_path} has no {record.name}; give a version that was released.")
    settings = json.loads(record.read_text())["settings"]
    size = settings["transform.image_size"]
    # A release from before there was a width has none in its record.
    model = models.build(settings["model.name"], size, width=settings.get("model.width", 1.0))
    export.load_weights(model, str(model_path))

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.uint8, name=IMAGE)])
    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(preprocessing.rescale(image), training=False)
        mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {contract.MASK: mask, contract.PROBABILITIES: probabilities}

    return segment


def pixels(photo: bytes, size: int) -> images.Pixels:
    """An encoded photo as a file takes it: uint8 [1, size, size, 3]."""
    import tensorflow as tf

    from pipeline import preprocessing

    decoded = preprocessing.decode_image(tf.constant(photo))
    return preprocessing.resize_image(decoded, size).numpy()[None]


def main(
    argv: Sequence[str] | None,
    *,
    command: str,
    name: str,
    ending: str,
    convert: Callable[[Path], bytes],
    masks: Callable[[bytes, Sequence[bytes]], list[images.Pixels]],
) -> int:
    """The command line of a format; returns the exit code.

    Args:
      argv: the arguments; None: those of the process.
      command: how it is called.
      name: of the format.
      ending: of its files.
      convert: makes the content of a file of a released version.
      masks: what a file's content makes of encoded photos: class ids, uint8 [size, size] each.
    """
    try:
        arguments = _parse(argv, command, name, ending)
        if arguments.output.is_dir():  # known before the work is done
            raise UserError(f"{arguments.output} is a folder; give the file to write.")
        model_path = find_saved_model(arguments.model)
        with native_noise_held_back():
            content = convert(model_path)
            photos = _photos()
            expected = [answer.mask for answer in Segmenter(model_path).predict(photos)]
            found = masks(content, photos)
    except UserError as error:
        console.complain(str(error))
        return USER_ERROR
    agreement = float(np.mean([a == b for a, b in zip(found, expected, strict=True)]))
    if agreement < LEAST_AGREEMENT:
        console.complain(
            f"Nothing was written: the masks of {model_path} and of its conversion agree on "
            f"{agreement:.2%} of the pixels."
        )
        return OTHER_MASKS
    try:
        images.write_atomically(arguments.output, content)
    except OSError as error:
        console.complain(f"Cannot write {arguments.output}: {error.strerror}.")
        return USER_ERROR
    print(
        f"{arguments.output}: {len(content) / 1e6:.1f} MB, agrees with {model_path} on "
        f"{agreement:.3%} of the pixels of {PHOTOS} photos."
    )
    return DONE


def _photos() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        builtin_data.generate(Path(folder), count=PHOTOS, seed=5)
        return [path.read_bytes() for path in sorted(Path(folder, "images").iterdir())]


def _parse(argv: Sequence[str] | None, command: str, name: str, ending: str) -> argparse.Namespace:
    parser = Parser(
        prog=command,
        description=f"Writes a released model as a file of {name}, after comparing the masks.",
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="DIR",
        help="a released version, or a model's serving folder (its newest version is taken)",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FILE", help=f"the file, ending in {ending}"
    )
    return parser.parse_args(argv)
