"""Write the warm-up requests that TensorFlow Serving replays after loading a version.

The first request to a signature prepares its graph, which takes many times as long as any later
request. TensorFlow Serving replays ``assets.extra/tf_serving_warmup_requests``, a TFRecord file of
`PredictionLog` messages, before it accepts other requests.
Source: tensorflow.org/tfx/serving/saved_model_warmup.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tfx.dsl.io import fileio

from pipeline.core import images
from pipeline.saved_model import contract

FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
_HEIGHT, _WIDTH = 375, 500  # of the photo, pixels


def write(model_path: str) -> None:
    """Writes one warm-up request for each serving signature into a SavedModel."""
    path = os.path.join(model_path, FILE)
    fileio.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature in (contract.SERVE, contract.SERVE_PNG):
            writer.write(_log(signature).SerializeToString(deterministic=True))


def _log(signature: str) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    ramp = np.linspace(0, 255, _WIDTH).astype(np.uint8)
    photo = images.encode(np.broadcast_to(ramp[None, :, None], (_HEIGHT, _WIDTH, 3)), "JPEG")
    request.inputs[contract.IMAGE_BYTES].CopyFrom(tf.make_tensor_proto([photo], tf.string))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
