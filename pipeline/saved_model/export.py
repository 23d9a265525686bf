"""The SavedModel that leaves the Trainer: transform graph and model in one, with four signatures.

* ``serving_default``: encoded photos in, masks and probabilities out; needs plain TensorFlow only.
* ``serving_png``: encoded photos in, masks as PNG files out; a bad photo fails alone.
* ``evaluate``: serialized raw examples in, a few counts of pixels an example out; what Evaluator
  reads.
* ``segment_examples``: serialized raw examples in, ids, true and predicted masks out; what the
  report shows.

Servers restore a SavedModel through its restore operation (TensorFlow Serving, C, Java, Go), which
Python's own loader does not use. It assigns to the variables that the saved module tracks. Those of
Keras 3 are wrappers: tracked through the model, they are saved as copies, which are restored while
the graph reads the originals, and each request ends in "Could not find variable" (tensorflow#72963,
keras#20095). So the module tracks the plain variables, and never the model.
"""

from __future__ import annotations

import os
import tempfile
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
    """A Keras model behind the transform graph it was trained with."""

    def __init__(
        self, model: keras.Model, transform_output: tft.TFTransformOutput, image_size: int
    ):
        """Wraps a model.

        Args:
          model: maps float32 [batch, size, size, 3] in [0, 1] to class probabilities, float32
            [batch, size, size, 3].
          transform_output: of the Transform component.
          image_size: the `size` above, pixels.
        """
        super().__init__()
        self.weights = [variable.value for variable in model.weights]
        self.transform = transform_output.transform_features_layer()
        self._raw_spec = transform_output.raw_feature_spec()
        self._size = image_size
        # One function that all signatures call: else each holds the whole model. And behind a plain
        # one: a function that is an attribute is traced once more when it is saved.
        photos = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
        predict = tf.function(lambda x: model(x, training=False), [photos], autograph=False)
        self._predict = lambda x: predict(x)

    def signatures(self) -> dict[str, Any]:
        """The functions to save, by signature name."""
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
        """Segments encoded photos, string [batch], each of which may be anything.

        Returns:
          mask_png_bytes: string [batch], a grey PNG of class ids, size x size pixels, each; empty
            for a photo that cannot be decoded.
          valid: bool [batch], whether it could be.
        """
        pixels, valid = preprocessing.attempt_each(
            self._pixels, image_bytes, [self._size, self._size, 3]
        )
        pixels = tf.ensure_shape(pixels, [None, self._size, self._size, 3])
        mask = pixel_counts.most_probable(self._predict(preprocessing.rescale(pixels)))
        return {contract.MASK_PNG: preprocessing.encode_masks(mask, valid), contract.VALID: valid}

    def _pixels(self, photo: tf.Tensor) -> tf.Tensor:
        """One encoded photo (scalar string) as the model sees it: uint8 [size, size, 3]."""
        packed = self.transform({features.IMAGE: photo[None]})[features.IMAGE_PIXELS]
        return self._unpack(preprocessing.unpack_image, packed)[0]

    def evaluate(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Counts pixels, each photo's by itself: see `pipeline.saved_model.pixel_counts`.

        Args:
          examples: serialized raw examples, string [batch].

        Returns:
          confusion: float32 [batch, 9], each row the matrix with true classes down and predicted
            classes across.
          boundary: float32 [batch, 6].
          calibration: float32 [batch, 30].
          All are NaN where the model's output is not finite, so that no gate can take it for a
          prediction.
        """
        counts = dict.fromkeys(("confusion", "boundary", "calibration"), tf.float32)
        # One photo at a time: Beam hands over a thousand, whose activations no memory holds.
        return tf.map_fn(self._count, examples, fn_output_signature=counts)

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
        """Segments the photos of serialized raw examples, string [batch].

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
        return tf.io.parse_example(examples, self._raw_spec)

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
    """Writes the SavedModel, and in it, for a later training, the weights as Keras saves them.

    Args:
      model: as for `SegmentationModule`.
      transform_output: the same.
      image_size: the same.
      path: of the SavedModel.
      exif: what the transform graph does with the EXIF orientation of photos: the setting.
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
    """Gives a Keras model the weights of a SavedModel that `save` wrote.

    Raises:
      fileio.NotFoundError: it holds none.
      ValueError: they are those of another architecture.
    """
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, os.path.basename(_WEIGHTS))
        fileio.copy(os.path.join(path, _WEIGHTS), local)
        model.load_weights(local)
