"""What a training runs on: the machine's GPUs, their memory, and the precision that suits them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import keras
import tensorflow as tf

_LARGE_GPU_MB = 15_000  # what a "16 GB" card really offers


def strategy() -> tf.distribute.Strategy:
    """All GPUs of the machine in step, or the one device there is."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def batch_size(choice: int | str, devices: int = 1) -> int:
    """Photos a step, over all devices together, each of which gets as many.

    Args:
      choice: ``train.batch_size`` of the settings. ``auto`` takes for each GPU 64 if all of them
        have 16 GB or more, else 16, and 16 on a CPU; a number is rounded up to a multiple.
      devices: that train in step.
    """
    wanted = _auto_batch_size() if choice == "auto" else int(choice)
    return -(-wanted // devices) * devices


def _auto_batch_size() -> int:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return 16
    try:
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        output = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        smallest = min(map(int, output.split()))
    except (OSError, subprocess.CalledProcessError, ValueError):  # "[N/A]": memory is shared
        smallest = 0
    return len(gpus) * (64 if smallest >= _LARGE_GPU_MB else 16)


@contextlib.contextmanager
def precision(choice: str) -> Iterator[str]:
    """In this context layers compute in the chosen precision; weights are float32 in each.

    ``auto`` takes bfloat16 where all GPUs have it in hardware (compute capability 8 and above),
    float16 where they have only that (7), and float32 on older ones and on a CPU.

    Args:
      choice: ``train.precision`` of the settings.

    Yields:
      The name of Keras' dtype policy.
    """
    former = keras.config.dtype_policy()
    name = choice if choice != "auto" else _auto_precision()
    keras.config.set_dtype_policy(name)
    try:
        yield name
    finally:
        keras.config.set_dtype_policy(former)


def _auto_precision() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min((each.get("compute_capability", (0, 0)) for each in details), default=(0, 0))
    if oldest < (7, 0):
        return "float32"
    return "mixed_bfloat16" if oldest >= (8, 0) else "mixed_float16"
