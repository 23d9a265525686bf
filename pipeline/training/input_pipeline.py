"""Make batches for training from the packed pixels that Transform wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.core import features
from pipeline.data import preprocessing
from pipeline.training import augmentation

_CACHE_BYTES = 2 * 2**30  # larger splits are read from disk in each epoch
_SHUFFLE_BYTES = 512 * 2**20  # shuffle buffer of packed pixels for larger splits
_ALL = 2**40  # examples


class Photos:
    """The photos of one split.

    The order in an epoch depends only on the seed and the epoch's number, so a training that
    resumes sees the same batches as one that was never interrupted.
    """

    def __init__(self, patterns: Sequence[str], size: int, batch_size: int, devices: int = 1):
        """Reads the packed examples into memory if they fit.

        Args:
          patterns: glob patterns of gzipped TFRecord files.
          size: side of the packed pixels.
          batch_size: photos per batch; the last batch of an epoch may be smaller.
          devices: number of devices that share each batch. In training they all get the same number
            of photos, so an epoch drops the remainder, which differs between epochs.
        """
        names = sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))
        self._size, self._batch_size, self._devices = size, batch_size, devices
        self._records = tf.data.TFRecordDataset(names, compression_type="GZIP")
        # `components.records` does not compress, so file sizes are sizes in memory.
        fits = sum(tf.io.gfile.stat(name).length for name in names) <= _CACHE_BYTES
        # As one tensor, so that the records never become Python objects.
        self._memory = next(iter(self._records.batch(_ALL)), None) if fits else None
        self.count = (
            int(self._records.reduce(np.int64(0), lambda n, _: n + 1))
            if self._memory is None
            else len(self._memory)
        )

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-self._shared // self._batch_size)

    @property
    def _shared(self) -> int:
        """Photos per training epoch."""
        return self.count - self.count % self._devices

    def class_pixels(self) -> list[int]:
        """The number of pixels of each class in all photos."""
        total = np.zeros(features.NUM_CLASSES, np.int64)
        for _, ids in self._unpacked(self._serialized(None)).as_numpy_iterator():
            total += np.bincount(ids.ravel(), minlength=features.NUM_CLASSES)
        return [int(pixels) for pixels in total]

    def in_order(self) -> tf.data.Dataset:
        """Batches of (image float32 [batch, size, size, 3] in [0, 1], ids uint8 [batch, ...]).

        Keras needs as many photos for each device in the first batch, and at least one for each in
        the last. Where that cannot be, every photo comes as many times as there are devices.
        """
        photos = self._unpacked(self._serialized(None))
        last = self.count % self._batch_size
        uneven_first = self.count < self._batch_size and self.count % self._devices
        if uneven_first or 0 < last < self._devices:
            photos = photos.repeat(self._devices)
        return self._rescaled(photos.batch(self._batch_size))

    def epoch(self, number: int, seed: int, strength: float) -> tf.data.Dataset:
        """The batches of one epoch of training, shuffled and augmented.

        Args:
          number: number of the epoch, from 0.
          seed: seed of the training.
          strength: strength of augmentation, 0 to 1.
        """
        photos = self._unpacked(self._serialized(seed + 7919 * number).take(self._shared))
        return self._rescaled(
            augmentation.augmented_batches(
                photos, self._batch_size, strength, seed, first_photo=number * self.count
            )
        )

    def _serialized(self, shuffle_seed: int | None) -> tf.data.Dataset:
        if self._memory is None:
            data, buffer = self._records, max(1, _SHUFFLE_BYTES // (self._size**2 * 3))
        else:
            data, buffer = tf.data.Dataset.range(self.count), self.count
        if shuffle_seed is not None:
            # Keras peeks at a varying number of batches before it starts, so each iteration must
            # give the same order.
            data = data.shuffle(buffer, shuffle_seed, reshuffle_each_iteration=False)
        if self._memory is not None:
            memory = self._memory
            data = data.map(lambda index: memory[index])
        return data

    def _unpacked(self, serialized: tf.data.Dataset) -> tf.data.Dataset:
        spec = {
            features.IMAGE_PIXELS: tf.io.FixedLenFeature([], tf.string),
            features.MASK_PIXELS: tf.io.FixedLenFeature([], tf.string),
        }

        def unpack(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            example = tf.io.parse_single_example(record, spec)
            return (
                preprocessing.unpack_image(example[features.IMAGE_PIXELS], self._size),
                preprocessing.unpack_mask(example[features.MASK_PIXELS], self._size),
            )

        return serialized.map(unpack, num_parallel_calls=tf.data.AUTOTUNE)

    def _rescaled(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return batches.map(
            lambda photos, ids: (preprocessing.rescale(photos), ids),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).prefetch(2)
