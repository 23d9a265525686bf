"""Choose devices, batch size and precision for the GPUs of this machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import keras
import tensorflow as tf

_LARGE_GPU_MB = 15_000  # usable memory of a "16 GB" card


def strategy() -> tf.distribute.Strategy:
    """Mirrors the model on all GPUs of the machine if there are several."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def batch_size(setting: int | str, devices: int = 1) -> int:
    """The number of photos per step on all devices together, a multiple of ``devices``.

    Args:
      setting: ``train.batch_size``. ``auto`` gives 16 on a CPU, 64 per GPU if all GPUs have 16 GB
        or more, and 16 per GPU otherwise. A number is rounded up to a multiple of ``devices``.
      devices: number of devices that share a batch.
    """
    size = _auto_batch_size() if setting == "auto" else int(setting)
    return -(-size // devices) * devices


def _auto_batch_size() -> int:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return 16
    try:
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        output = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        smallest = min(map(int, output.split()))
    except (OSError, subprocess.CalledProcessError, ValueError):  # "[N/A]" for shared memory
        smallest = 0
    return len(gpus) * (64 if smallest >= _LARGE_GPU_MB else 16)


@contextlib.contextmanager
def precision(setting: str) -> Iterator[str]:
    """Sets the precision of layers built in this context; weights are always float32.

    ``auto`` gives bfloat16 if all GPUs support it in hardware (compute capability 8 or higher),
    float16 if all support at least that (7), and float32 on older GPUs and on a CPU.

    Args:
      setting: ``train.precision``.

    Yields:
      The name of the Keras dtype policy.
    """
    previous = keras.config.dtype_policy()
    name = setting if setting != "auto" else _auto_precision()
    keras.config.set_dtype_policy(name)
    try:
        yield name
    finally:
        keras.config.set_dtype_policy(previous)


def _auto_precision() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min((each.get("compute_capability", (0, 0)) for each in details), default=(0, 0))
    if oldest < (7, 0):
        return "float32"
    return "mixed_bfloat16" if oldest >= (8, 0) else "mixed_float16"
