"""ONNX Runtime as a backend of Triton in Python, since the real one is not to be had by itself."""

from __future__ import annotations

import os

import numpy
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self._session = onnxruntime.InferenceSession(path)

    def execute(self, requests: list[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: triton.InferenceRequest) -> triton.InferenceResponse:
        names = list(request.requested_output_names())
        # DLPack, as the backend's own conversion of arrays reads those of NumPy 2 wrongly.
        tensors = {each.name(): numpy.from_dlpack(each) for each in request.inputs()}
        answers = zip(names, self._session.run(names, tensors), strict=True)
        return triton.InferenceResponse([triton.Tensor.from_dlpack(*each) for each in answers])
