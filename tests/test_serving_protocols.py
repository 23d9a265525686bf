"""The released model behind TensorFlow Serving's protocols.

No server runs here. What it does with a request is done by the published rules, with TensorFlow
Serving's own messages; docs/how_to/serve_tensorflow.md has the requests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import Run
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from pipeline.cli import predict
from pipeline.saved_model import smoke_test

SIZE = 64
NAME = "serving_default"


@pytest.fixture(scope="module")
def photos(small_run: Run) -> list[bytes]:
    return [path.read_bytes() for path in sorted((small_run.data_root / "images").iterdir())[:3]]


@pytest.fixture(scope="module")
def signature(small_run: Run) -> Any:
    """What TensorFlow Serving tells of the model, after its way over the wire."""
    saved = saved_model_pb2.SavedModel.FromString(
        (small_run.released() / "saved_model.pb").read_bytes()
    )
    told = get_model_metadata_pb2.SignatureDefMap()
    told.signature_def[NAME].CopyFrom(saved.meta_graphs[0].signature_def[NAME])
    received = get_model_metadata_pb2.SignatureDefMap.FromString(told.SerializeToString())
    return received.signature_def[NAME]


@pytest.fixture(scope="module")
def segmenter(small_run: Run) -> predict.Segmenter:
    return predict.Segmenter(small_run.released())


@pytest.fixture(scope="module")
def model(small_run: Run) -> Iterator[Any]:
    """Asks the release as TensorFlow Serving does: through the session loader."""
    with smoke_test.as_server(str(small_run.released())) as (_, ask):
        yield ask


def serve(model: Any, signature: Any, wire: bytes) -> bytes:
    """PredictRequest in, PredictResponse out, with TensorFlow Serving's checks of the request."""
    request = predict_pb2.PredictRequest.FromString(wire)
    assert request.model_spec.signature_name in ("", NAME)
    assert set(request.inputs) == set(signature.inputs)
    for name, tensor in request.inputs.items():
        assert tensor.dtype == signature.inputs[name].dtype
    wanted = list(request.output_filter) or list(signature.outputs)
    assert set(wanted) <= set(signature.outputs)
    outputs = model(NAME, tf.make_ndarray(request.inputs["image_bytes"]).tolist())
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    for name in wanted:
        response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        assert response.outputs[name].dtype == signature.outputs[name].dtype
    return response.SerializeToString()


def request_of(photos: list[bytes], *outputs: str) -> bytes:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "xception_unet"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(photos, tf.string))
    return request.SerializeToString()


def test_signature_is_one_that_servers_take(signature: Any) -> None:
    assert signature.method_name == "tensorflow/serving/predict"
    measures = {
        name: (types_pb2.DataType.Name(i.dtype), [d.size for d in i.tensor_shape.dim])
        for name, i in {**signature.inputs, **signature.outputs}.items()
    }
    assert measures == {
        # By the suffix TensorFlow Serving's REST interface knows what is binary.
        "image_bytes": ("DT_STRING", [-1]),
        "mask": ("DT_UINT8", [-1, SIZE, SIZE]),
        "probabilities": ("DT_FLOAT", [-1, SIZE, SIZE, 3]),
    }


def test_predict_request(
    model: Any, segmenter: predict.Segmenter, signature: Any, photos: list[bytes]
) -> None:
    wire = serve(model, signature, request_of(photos))
    outputs = predict_pb2.PredictResponse.FromString(wire).outputs
    masks, probabilities = (tf.make_ndarray(outputs[key]) for key in ("mask", "probabilities"))
    assert (masks.dtype, probabilities.dtype) == (np.uint8, np.float32)
    answers = segmenter.predict(photos)
    np.testing.assert_array_equal(masks, [answer.mask for answer in answers])
    np.testing.assert_allclose(probabilities, [a.probabilities for a in answers], atol=1e-6)
    few = predict_pb2.PredictResponse.FromString(
        serve(model, signature, request_of(photos, "mask"))
    )
    assert list(few.outputs) == ["mask"]


def test_rest_body(model: Any, signature: Any, photos: list[bytes]) -> None:
    """Row format: an instance is the value of the only input; a prediction names the outputs."""
    body = json.dumps({"instances": [{"b64": base64.b64encode(p).decode()} for p in photos]})
    assert len(signature.inputs) == 1
    instances = [base64.b64decode(each["b64"]) for each in json.loads(body)["instances"]]
    response = predict_pb2.PredictResponse.FromString(
        serve(model, signature, request_of(instances))
    )
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    rows = [{n: o[i].tolist() for n, o in outputs.items()} for i in range(len(photos))]
    answer = json.loads(json.dumps({"predictions": rows}, allow_nan=False))
    masks = np.array([row["mask"] for row in answer["predictions"]])
    assert masks.shape == (3, SIZE, SIZE)
    assert set(np.unique(masks)) <= {0, 1, 2}
