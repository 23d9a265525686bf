"""An ONNX file in MLServer; names, types and shapes are those of the file."""

import mlserver
import onnxruntime
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError

_DATATYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}


class OnnxModel(mlserver.MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.settings.parameters.extra["threads"]
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self.inputs = [_described(each) for each in self._session.get_inputs()]
        self.outputs = [_described(each) for each in self._session.get_outputs()]
        return True

    async def predict(
        self, payload: mlserver.types.InferenceRequest
    ) -> mlserver.types.InferenceResponse:
        names = [output.name for output in payload.outputs or self.outputs]
        try:
            tensors = {each.name: NumpyCodec.decode_input(each) for each in payload.inputs}
            answers = self._session.run(names, tensors)
        except Exception as error:  # what the client sent does not fit
            raise InferenceError(str(error)) from None
        outputs = [NumpyCodec.encode_output(*each) for each in zip(names, answers, strict=True)]
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=outputs)


def _described(tensor: onnxruntime.NodeArg) -> mlserver.types.MetadataTensor:
    shape = [side if isinstance(side, int) else -1 for side in tensor.shape]
    datatype = _DATATYPES[tensor.type]
    return mlserver.types.MetadataTensor(name=tensor.name, datatype=datatype, shape=shape)
