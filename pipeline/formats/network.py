"""The function in a file in another format: resizing, network and class ids of decoded photos.

None of these formats can decode JPEGs, so callers decode the photos. Resizing is inside, so that
every caller resizes as in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tfx.dsl.io import fileio

from pipeline import models
from pipeline.core import features, images
from pipeline.core.errors import UserError, first_line
from pipeline.formats import IMAGE
from pipeline.saved_model import contract, export


@dataclass(frozen=True)
class Release:
    """A released version with its record, ready to be converted."""

    path: Path
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the masks, pixels."""
        return int(self.record["settings"]["transform.image_size"])

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.record["settings"]["model.name"])

    @property
    def exif(self) -> str:
        """How it treats the EXIF orientation of photos: see `contract.exif`."""
        return contract.exif(str(self.path))

    def metadata(self) -> dict[str, str]:
        """The metadata to store in a file."""
        exif = {contract.EXIF: self.exif} if self.exif != contract.AS_STORED else {}
        return {
            "model": self.name,
            "version": str(self.record["version"]),
            "image_size": str(self.size),
            "classes": ",".join(features.CLASS_NAMES),
            "colours": ",".join(images.hex_colour(each) for each in images.COLOURS),
            **exif,
        }

    def network(self) -> keras.Model:
        """The model with its weights: float32 [batch, size, size, 3] to class probabilities.

        Raises:
          UserError: if the weights do not fit the model that the current code builds.
        """
        settings = self.record["settings"]
        width = settings.get("model.width", 1.0)  # old records have no width
        try:
            model = models.build(self.name, self.size, width=width)
            export.load_weights(model, str(self.path))
        except (OSError, ValueError, fileio.NotFoundError) as error:
            raise UserError(
                f"The weights of {self.path} do not fit the current code of the model {self.name!r}"
                f" ({first_line(error)}). Convert it with the code that trained it."
            ) from error
        return model


def read(model_path: Path) -> Release:
    """Reads the record of a released version.

    Raises:
      UserError: if there is no readable record.
    """
    from pipeline.release import model_store

    record = model_store.read_record(str(model_path))
    if not record:
        name = Path(model_store.RECORD).name
        raise UserError(
            f"{model_path} has no readable {name}. Specify a version that this pipeline released."
        )
    return Release(model_path, record)


def function(
    release: Release, batch: int | None = None
) -> tf.types.experimental.PolymorphicFunction:
    """Builds the function to write into a file.

    Args:
      release: the released version.
      batch: the fixed batch size; None for any.

    Returns:
      A function of `IMAGE`, uint8 [batch, height, width, 3] of any height and width, that returns
      ``mask``, class ids, uint8 [batch, size, size], and ``probabilities``, float32
      [batch, size, size, 3].
    """
    model, size = release.network(), release.size

    @tf.function(
        input_signature=[tf.TensorSpec([batch, None, None, 3], tf.uint8, name=IMAGE)],
        autograph=False,
    )
    def segment(image: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = tf.ensure_shape(resize(image, size), [batch, size, size, 3])
        probabilities = model(pixels / 255.0, training=False)
        mask = tf.cast(tf.argmax(probabilities, axis=-1), tf.uint8)
        return {contract.MASK: mask, contract.PROBABILITIES: probabilities}

    return segment


def resize(photos: tf.Tensor, size: int) -> tf.Tensor:
    """`preprocessing.resize_image` as two matrix products, for formats without its operations.

    Each row and column of the result is a weighted mean of the photo's rows and columns. The
    weights depend only on its shape.

    Args:
      photos: uint8 [batch, height, width, 3].
      size: side of the result, pixels.

    Returns:
      float32 [batch, size, size, 3], whole numbers from 0 to 255.
    """
    shape = tf.shape(photos)
    batch, height, width = shape[0], shape[1], shape[2]
    shrinks = tf.minimum(height, width) >= size
    rows, columns = _weights(height, size, shrinks), _weights(width, size, shrinks)
    flat = tf.reshape(tf.cast(photos, tf.float32), tf.stack([batch, height, width * 3]))
    lower = tf.reshape(tf.matmul(rows, flat), tf.stack([batch, size, width, 3]))
    narrow = tf.matmul(tf.transpose(lower, [0, 3, 1, 2]), columns, transpose_b=True)
    # Round halves up, as `preprocessing` does. The factor replaces an addition, which LiteRT would
    # quantise to int8.
    return tf.round(tf.transpose(narrow, [0, 2, 3, 1]) * (1 + 2**-20))


def _weights(side: tf.Tensor, size: int, shrinks: tf.Tensor) -> tf.Tensor:
    """The weight of each pixel of a side in each pixel of the result: float32 [size, side].

    Integers up to the last step, because runtimes that compute in half precision (OpenVINO on some
    processors) or in int8 leave integers alone. Their floats could not represent large
    coordinates.

    Args:
      side: side of the photo, pixels, a scalar.
      size: side of the result, pixels.
      shrinks: whether both sides shrink. If so, pixels are averaged by area, else by an antialiased
        bilinear filter.
    """
    # A pixel of the photo is `size` units wide and one of the result `side` units. `distance` is
    # twice the distance of their centres. Both the common area and the filter decrease with it.
    photo, result = tf.range(side) * (2 * size) + size, tf.range(size) * (2 * side) + side
    distance = tf.abs(photo[None, :] - result[:, None])
    reach = tf.where(shrinks, size + side, 2 * tf.maximum(side, size))
    highest = tf.where(shrinks, 2 * size, reach)
    weights = tf.minimum(tf.maximum(reach - distance, 0), highest)
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.cast(weights, tf.float32) / tf.cast(total, tf.float32)
