"""Export the transform graph and the model as one SavedModel with four signatures.

* ``serving_default``: encoded photos to masks and probabilities; needs only plain TensorFlow.
* ``serving_png``: encoded photos to masks as PNG files; a bad photo does not fail the others.
* ``evaluate``: serialised raw examples to pixel counts, for Evaluator.
* ``segment_examples``: serialised raw examples to ids, true and predicted masks, for the report.

Servers (TensorFlow Serving, C, Java, Go) load a SavedModel through its restore operation, unlike
Python's loader. That operation assigns to the variables that the saved module tracks. Keras 3 wraps
variables. If the module tracks them through the model, TensorFlow saves copies and restores these,
while the graph reads the originals, and every request fails with "Could not find variable"
(tensorflow#72963, keras#20095). So the module tracks the plain variables, and never the model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.io import fileio

from pipeline.core import features
from pipeline.data import preprocessing
from pipeline.saved_model import contract, pixel_counts, warmup

_WEIGHTS = os.path.join("assets.extra", "model.weights.h5")


class SegmentationModule(tf.Module):
    """A Keras model behind the transform graph that it was trained with."""

    def __init__(
        self, model: keras.Model, transform_output: tft.TFTransformOutput, image_size: int
    ):
        """Wraps a model.

        Args:
          model: maps float32 [batch, size, size, 3] in [0, 1] to class probabilities, float32
            [batch, size, size, 3].
          transform_output: the output of the Transform component.
          image_size: ``size`` above, pixels.
        """
        super().__init__()
        self.weights = [variable.value for variable in model.weights]
        self.transform = transform_output.transform_features_layer()
        self._raw_spec = transform_output.raw_feature_spec()
        self._size = image_size
        # All signatures call this one function; otherwise each would contain the whole model. The
        # lambda hides it from the module, since saving traces functions that are attributes again.
        photos = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
        predict = tf.function(lambda x: model(x, training=False), [photos], autograph=False)
        self._predict: Callable[[tf.Tensor], tf.Tensor] = lambda x: predict(x)

    def signatures(self) -> dict[str, Any]:
        """Returns the functions to save, by signature name."""
        return {
            name: tf.function(method, [tf.TensorSpec([None], tf.string, argument)], autograph=False)
            for name, method, argument in (
                (contract.SERVE, self.serve, contract.IMAGE_BYTES),
                (contract.SERVE_PNG, self.serve_png, contract.IMAGE_BYTES),
                (contract.EVALUATE, self.evaluate, contract.EXAMPLES),
                (contract.SEGMENT, self.segment_examples, contract.EXAMPLES),
            )
        }

    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments encoded photos, string [batch].

        Returns:
          mask: class ids, uint8 [batch, size, size].
          probabilities: float32 [batch, size, size, 3].
        """
        return self._segment(self.transform({features.IMAGE: image_bytes}))

    def serve_png(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments encoded photos, string [batch], of which some may be invalid.

        Returns:
          mask_png_bytes: string [batch], grey PNGs of class ids, size x size pixels; empty for a
            photo that cannot be decoded.
          valid: bool [batch], whether the photo was decoded.
        """
        pixels, valid = preprocessing.attempt_each(
            self._pixels, image_bytes, [self._size, self._size, 3]
        )
        pixels = tf.ensure_shape(pixels, [None, self._size, self._size, 3])
        mask = pixel_counts.most_probable(self._predict(preprocessing.rescale(pixels)))
        return {contract.MASK_PNG: preprocessing.encode_masks(mask, valid), contract.VALID: valid}

    def _pixels(self, photo: tf.Tensor) -> tf.Tensor:
        """Decodes one photo (scalar string) as the model sees it: uint8 [size, size, 3]."""
        packed = self.transform({features.IMAGE: photo[None]})[features.IMAGE_PIXELS]
        return self._unpack(preprocessing.unpack_image, packed)[0]

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Counts the pixels of each photo: see `pipeline.saved_model.pixel_counts`.

        Args:
          examples: serialised raw examples, string [batch].

        Returns:
          confusion: float32 [batch, 9], the matrix with true classes as rows and predicted classes
            as columns.
          boundary: float32 [batch, 6].
          calibration: float32 [batch, 30].
          All are NaN if the model's output is not finite, so that it fails every gate.
        """
        dtypes = dict.fromkeys(("confusion", "boundary", "calibration"), tf.float32)
        # One photo at a time: Beam passes a thousand, whose activations would not fit into memory.
        counts: dict[str, tf.Tensor] = tf.map_fn(self._count, examples, fn_output_signature=dtypes)
        return counts

    def _count(self, example: tf.Tensor) -> dict[str, tf.Tensor]:
        transformed = self.transform(self._parse(example[None]))
        predicted = self._segment(transformed)
        probabilities = predicted["probabilities"][0]
        mask = tf.cast(predicted["mask"][0], tf.int32)
        true = self._unpack(preprocessing.unpack_mask, transformed[features.MASK_PIXELS])
        true = tf.ensure_shape(tf.cast(true[0], tf.int32), [self._size, self._size])
        mask = tf.ensure_shape(mask, [self._size, self._size])
        counts = {
            "confusion": pixel_counts.confusion(true, mask),
            "boundary": pixel_counts.boundary(true, mask),
            "calibration": pixel_counts.calibration(true, mask, probabilities),
        }
        finite = tf.reduce_all(tf.math.is_finite(probabilities))
        return {name: tf.where(finite, count, float("nan")) for name, count in counts.items()}

    def segment_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Segments the photos of serialised raw examples, string [batch].

        Returns:
          id: string [batch].
          truth, mask: true and predicted class ids, uint8 [batch, size, size].
          image: the photo as the model sees it, uint8 [batch, size, size, 3].
        """
        raw = self._parse(examples)
        transformed = self.transform(raw)
        return {
            "id": raw[features.ID],
            "truth": self._unpack(preprocessing.unpack_mask, transformed[features.MASK_PIXELS]),
            "mask": self._segment(transformed)["mask"],
            "image": self._unpack(preprocessing.unpack_image, transformed[features.IMAGE_PIXELS]),
        }

    def _parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed: dict[str, tf.Tensor] = tf.io.parse_example(examples, self._raw_spec)
        return parsed

    def _segment(self, transformed: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        pixels = self._unpack(preprocessing.unpack_image, transformed[features.IMAGE_PIXELS])
        probabilities = self._predict(preprocessing.rescale(pixels))
        mask = pixel_counts.most_probable(probabilities)
        return {contract.MASK: mask, contract.PROBABILITIES: probabilities}

    def _unpack(self, unpack: Any, packed: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda p: unpack(p, self._size),
            tf.reshape(packed, [-1]),
            fn_output_signature=tf.uint8,
        )


def save(
    model: keras.Model,
    transform_output: tft.TFTransformOutput,
    image_size: int,
    path: str,
    exif: str = contract.AS_STORED,
) -> None:
    """Writes the SavedModel, with the Keras weights in it so that a later training can load them.

    Args:
      model: see `SegmentationModule`.
      transform_output: see `SegmentationModule`.
      image_size: see `SegmentationModule`.
      path: the SavedModel's folder.
      exif: how the transform graph treats the EXIF orientation of photos: the setting.
    """
    module = SegmentationModule(model, transform_output, image_size)
    tf.saved_model.save(module, path, signatures=module.signatures())
    warmup.write(path)
    contract.write_facts(path, exif)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(_WEIGHTS))
        model.save_weights(local)
        fileio.makedirs(os.path.dirname(os.path.join(path, _WEIGHTS)))
        fileio.copy(local, os.path.join(path, _WEIGHTS))


def load_weights(model: keras.Model, path: str) -> None:
    """Loads the weights in a SavedModel that `save` wrote into a Keras model.

    Raises:
      fileio.NotFoundError: if the SavedModel has no Keras weights.
      ValueError: if the weights do not fit the model's architecture.
    """
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(_WEIGHTS))
        fileio.copy(os.path.join(path, _WEIGHTS), local)
        model.load_weights(local)
