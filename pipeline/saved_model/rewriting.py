"""Export a SavedModel again so that servers restore its variables: see `contract.unservable`.

Python's loader does restore them. So this loads the model in Python, and saves it with a module
that tracks the plain variables. The transform graph, the network and the weights are unchanged, and
the code that built the model is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from pipeline.core import images
from pipeline.data import preprocessing
from pipeline.saved_model import contract, warmup

_EXTRA = "assets.extra"


def rewrite(model_path: str, target: str) -> None:
    """Writes a SavedModel that servers can run.

    Args:
      model_path: a SavedModel, which is not changed.
      target: the folder to write, which must not exist. It gets the old model's signatures,
        ``serving_png`` if the model lacks it, and the old model's ``assets.extra``.
    """
    loaded = tf.saved_model.load(model_path)  # keeps its variables alive
    signatures = dict(loaded.signatures)
    variables = [each for signature in signatures.values() for each in signature.variables]
    module = tf.Module()
    module.weights = list({id(variable): variable for variable in variables}.values())
    if contract.SERVE_PNG not in signatures:
        signatures[contract.SERVE_PNG] = tf.function(
            _serve_png(signatures[contract.SERVE]),
            [tf.TensorSpec([None], tf.string, contract.IMAGE_BYTES)],
            autograph=False,
        )
    tf.saved_model.save(module, target, signatures=signatures)
    extra = os.path.join(model_path, _EXTRA)
    if fileio.exists(extra):
        io_utils.copy_dir(extra, os.path.join(target, _EXTRA))
    warmup.write(target)


def _serve_png(serve: Any) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Builds ``serving_png`` on top of ``serving_default``, which decodes every photo twice."""
    blank = images.encode(np.zeros([1, 1, 3], np.uint8))

    def serve_png(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def decode(photo: tf.Tensor) -> tf.Tensor:
            return tf.reshape(preprocessing.decode_image(photo), [-1])[:1]

        _, valid = preprocessing.attempt_each(decode, image_bytes, [1])
        mask = serve(**{contract.IMAGE_BYTES: tf.where(valid, image_bytes, blank)})[contract.MASK]
        return {contract.MASK_PNG: preprocessing.encode_masks(mask, valid), contract.VALID: valid}

    return serve_png
