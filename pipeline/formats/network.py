"""What a file of another format holds: resizing, network and classes, from decoded photos on.

No such format decodes JPEGs, so decoding stays outside; resizing goes in, so that everybody who
asks the file resizes as the training did.
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
    """A released version, from its own record: what converting it takes."""

    path: Path
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the masks, pixels."""
        return self.record["settings"]["transform.image_size"]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.record["settings"]["model.name"]

    @property
    def exif(self) -> str:
        """What it takes photos to be: `contract.APPLY` wants them upright."""
        return contract.exif(str(self.path))

    def metadata(self) -> dict[str, str]:
        """What a file says of itself."""
        turned = {contract.EXIF: self.exif} if self.exif != contract.AS_STORED else {}
        return {
            "model": self.name,
            "version": str(self.record["version"]),
            "image_size": str(self.size),
            "classes": ",".join(features.CLASS_NAMES),
            "colours": ",".join(images.hex_colour(each) for each in images.COLOURS),
            **turned,
        }

    def network(self) -> keras.Model:
        """The model with its weights: float32 [batch, size, size, 3] to class probabilities.

        Raises:
          UserError: if today's code does not make that model any more.
        """
        settings = self.record["settings"]
        # A release from before there was a width has none in its record.
        width = settings.get("model.width", 1.0)
        try:
            model = models.build(self.name, self.size, width=width)
            export.load_weights(model, str(self.path))
        except (OSError, ValueError, fileio.NotFoundError) as error:
            raise UserError(
                f"The weights of {self.path} do not fit the model {self.name!r} of this code"
                f" ({first_line(error)}); convert it with the code that made it."
            ) from error
        return model


def read(model_path: Path) -> Release:
    """Reads the record of a released version.

    Raises:
      UserError: if it has none.
    """
    from pipeline.release import model_store

    record = model_store.read_record(str(model_path))
    if not record:
        name = Path(model_store.RECORD).name
        raise UserError(
            f"{model_path} has no {name} that can be read; give a version that was released."
        )
    return Release(model_path, record)


def function(
    release: Release, batch: int | None = None
) -> tf.types.experimental.PolymorphicFunction:
    """The function that a file holds.

    Args:
      release: of which version.
      batch: how many photos it takes at once; None: any number.

    Returns:
      It takes `IMAGE`, uint8 [batch, height, width, 3] of any height and width, and gives ``mask``,
      class ids, uint8 [batch, size, size], and ``probabilities``, float32 [batch, size, size, 3].
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
    """`preprocessing.resize_image` by two matrix products, for formats without its operations.

    Each row and each column of the result is a weighted mean of those of the photo; the weights
    follow from its shape alone.

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
    # Halves go up, as in `preprocessing`; a sum instead would be one of 8 bits in LiteRT.
    return tf.round(tf.transpose(narrow, [0, 2, 3, 1]) * (1 + 2**-20))


def _weights(side: tf.Tensor, size: int, shrinks: tf.Tensor) -> tf.Tensor:
    """How much of each pixel of a side goes into each pixel of the result: float32 [size, side].

    In whole numbers up to the last step, which programs leave alone that compute in half precision
    (OpenVINO on some processors) or in 8 bits: a coordinate above 256 is more than those hold.

    Args:
      side: of the photo, pixels, a scalar.
      size: of the result, pixels.
      shrinks: whether both sides shrink: then by area, else by a bilinear filter (antialiased).
    """
    # A pixel of the photo is `size` units wide, one of the result `side` units; the distance is
    # twice that of their centres. The area that both cover falls with it, and so does the filter.
    photo, result = tf.range(side) * (2 * size) + size, tf.range(size) * (2 * side) + side
    distance = tf.abs(photo[None, :] - result[:, None])
    reach = tf.where(shrinks, size + side, 2 * tf.maximum(side, size))
    highest = tf.where(shrinks, 2 * size, reach)
    weights = tf.minimum(tf.maximum(reach - distance, 0), highest)
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.cast(weights, tf.float32) / tf.cast(total, tf.float32)
