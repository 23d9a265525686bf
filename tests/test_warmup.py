"""The warm-up requests in a release, read back and replayed as TensorFlow Serving does."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from pipeline.saved_model import smoke_test
from tests.support.runs import Run

MOST_RECORDS = 1000  # TensorFlow Serving refuses to load a version that has more


def test_warmup_requests_are_answered(small_run: Run) -> None:
    file = small_run.released() / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    assert 0 < len(records) <= MOST_RECORDS
    asked = []
    with smoke_test.as_server(str(small_run.released())) as (signatures, ask):
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record)
            assert log.WhichOneof("log_type") == "predict_log"
            request = log.predict_log.request
            signature = request.model_spec.signature_name
            assert signature in signatures
            assert list(request.inputs) == ["image_bytes"]
            photos = tf.make_ndarray(request.inputs["image_bytes"]).tolist()
            assert all(len(output) == 1 for output in ask(signature, photos).values())
            asked.append(signature)
    assert asked == ["serving_default", "serving_png"]
