"""Write and run ONNX files, for ONNX Runtime and the servers that use it.

For calibration and int8, see Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR 2018. Only convolutions are quantised, because
ONNX Runtime's other operations are no faster in int8.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core import file_formats, images
from pipeline.formats import IMAGE, Output
from pipeline.saved_model import contract

if TYPE_CHECKING:  # these modules load TensorFlow and TFX
    from pipeline.formats.network import Release
    from pipeline.formats.photos import Example


def write(
    release: Release,
    path: Path,
    examples: Sequence[Example] | None = None,
    opset: int | None = None,
) -> None:
    """Writes a release as an ONNX file.

    Args:
      release: the released version.
      path: the file to write.
      examples: calibration photos for int8; None for float32.
      opset: ONNX opset, one of `file_formats.OPSETS`; None for `file_formats.OPSET`.
    """
    import onnx
    import tf2onnx

    from pipeline.formats import network

    function = network.function(release)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=opset or file_formats.OPSET
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        onnx.save(model, file)
        if examples is not None:
            _quantize(file, examples)
        model = onnx.load(file)
    onnx.helper.set_model_props(model, release.metadata())
    for tensor in (*model.graph.input, *model.graph.output):
        names = ("batch", "height", "width") if tensor.name == IMAGE else ("batch",)
        for dimension, name in zip(tensor.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _quantize(path: Path, examples: Sequence[Example]) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Photos(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._examples = iter(examples)

        def get_next(self) -> dict[str, Any] | None:
            example = next(self._examples, None)
            return None if example is None else {IMAGE: example.pixels()[None]}

    # The quantizer does not need symbolic shapes, and inferring them fails for some models.
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(path),
        str(path),
        Photos(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "ConvTranspose"],
    )


class Runner:
    """Runs a file in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.exif = metadata.get(contract.EXIF, contract.AS_STORED)

    def __call__(self, photos: images.Pixels) -> Output:
        """Segments photos, uint8 [batch, height, width, 3]."""
        names = [contract.MASK, contract.PROBABILITIES]
        mask, probabilities = self._session.run(names, {IMAGE: photos})
        return Output(mask, np.asarray(probabilities, np.float32))
