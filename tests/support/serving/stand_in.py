"""A stand-in for TensorFlow Serving, since its image cannot be had where the tests run.

Like it, ``python stand_in.py`` takes MODEL_NAME and MODEL_BASE_PATH from the environment,
loads the highest version below them with TensorFlow's session loader, and speaks the gRPC services
ModelService and PredictionService on port 8500. It has neither its server core nor its batching,
nor its HTTP interface; what it finds out about a model is what that loader and the graph say.
"""

from __future__ import annotations

import concurrent.futures
import os
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

PORT = 8500
_State = get_model_status_pb2.ModelVersionStatus.State
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Model(
    model_service_pb2_grpc.ModelServiceServicer,
    prediction_service_pb2_grpc.PredictionServiceServicer,
):
    """The version that is served, or could not be loaded."""

    def __init__(self, folder: Path) -> None:
        path = max(folder.iterdir(), key=lambda version: int(version.name))
        self._version = int(path.name)
        self._session: Any = None
        with tf.Graph().as_default():
            session = tf.compat.v1.Session()
            try:
                loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(path))
            except Exception as error:  # TensorFlow raises many kinds for a damaged file
                print(f"cannot load {path}: {error}", flush=True)
            else:
                self._session, self._signatures = session, loaded.signature_def

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        state = _State.END if self._session is None else _State.AVAILABLE
        response.model_version_status.add(version=self._version, state=state)
        return response

    def Predict(self, request: Any, context: Any) -> Any:
        signature = self._signatures[request.model_spec.signature_name or "serving_default"]
        given = {signature.inputs[k].name: tf.make_ndarray(v) for k, v in request.inputs.items()}
        wanted = {name: tensor.name for name, tensor in signature.outputs.items()}
        try:
            answers = self._session.run(wanted, given)
        except tf.errors.OpError as error:
            context.abort(_CODES[error.error_code], error.message)
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name, answer in answers.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(answer))
        return response


def serve(base: Path, name: str, port: int = 0) -> tuple[grpc.Server, int]:
    """Starts a server of the model below a folder; returns it and its port."""
    model = Model(base / name)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(model, server)
    port = server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    return server, port


if __name__ == "__main__":
    serving, _ = serve(Path(os.environ["MODEL_BASE_PATH"]), os.environ["MODEL_NAME"], PORT)
    print(f"serving on {PORT}", flush=True)
    serving.wait_for_termination()
