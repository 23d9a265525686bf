"""Number of photos that one core augments per second.

    python -m benchmarks.augmentation

Batches of 16 photos of 200x200 at full strength, per second of CPU time, which other work on the
machine affects less. Measured on 2026-11-24, compatible stack (TensorFlow 2.16.2), one core of an
AMD EPYC (Zen 5):

    flip, scale, rotation         673 images/s
    colour                       5593 images/s
    all                           588 images/s
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline.training import augmentation

BATCH, SIZE, STEPS = 16, 200, 30


def images_per_second(function: Callable[[tf.Tensor], object]) -> float:
    """Images per second of CPU time; `function` takes a seed, int64 [2]."""
    compiled = tf.function(function, autograph=False)
    compiled(tf.constant([0, 0], tf.int64))
    begin = time.process_time()
    for step in range(STEPS):
        compiled(tf.constant([1, step], tf.int64))
    return STEPS * BATCH / (time.process_time() - begin)


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng = np.random.default_rng(0)
    photos = tf.constant(rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8))
    masks = tf.constant(rng.integers(0, 3, (BATCH, SIZE, SIZE), np.uint8))
    figures = {
        "flip, scale, rotation": lambda seed: augmentation.move(photos, masks, seed, 1.0),
        "colour": lambda seed: augmentation.recolour(photos, seed, 1.0),
        "all": lambda seed: augmentation.augment_batch(photos, masks, seed, 1.0),
    }
    print(
        f"{datetime.date.today()}, one of {os.cpu_count()} cores ({platform.machine()}), "
        f"tensorflow {tf.__version__}, {SIZE} pixels, batch {BATCH}"
    )
    for name, function in figures.items():
        print(f"{name:24}{images_per_second(function):8.0f} images/s")


if __name__ == "__main__":
    main()
