"""ONNX files, for ONNX Runtime and the servers around it.

Calibration and 8 bits: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018. Convolutions alone are quantized: in ONNX Runtime the
operations between them are no quicker in 8 bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core import file_formats, images
from pipeline.formats import IMAGE, Answer
from pipeline.saved_model import contract

if TYPE_CHECKING:  # they load TensorFlow and TFX
    from pipeline.formats.network import Release
    from pipeline.formats.photos import Example


def write(
    release: Release,
    path: Path,
    examples: Sequence[Example] | None = None,
    opset: int | None = None,
) -> None:
    """Writes the file of a release.

    Args:
      release: of which version.
      path: the file.
      examples: whose photos 8 bits are calibrated on; None: as floats.
      opset: of ONNX, one of `file_formats.OPSETS`; None: `file_formats.OPSET`.
    """
    import onnx
    import tf2onnx

    from pipeline.formats import network

    function = network.function(release)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=opset or file_formats.OPSET
    )
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "model.onnx")
        onnx.save(model, made)
        if examples is not None:
            _quantize(made, examples)
        model = onnx.load(made)
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

    # Symbolic shapes are of no use to the quantizer, and the tool fails at some.
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
    """Asks a file through ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        described = self._session.get_modelmeta().custom_metadata_map
        self.exif = described.get(contract.EXIF, contract.AS_STORED)

    def __call__(self, photos: images.Pixels) -> Answer:
        """Segments photos, uint8 [batch, h, w, 3]."""
        wanted = [contract.MASK, contract.PROBABILITIES]
        mask, probabilities = self._session.run(wanted, {IMAGE: photos})
        return Answer(mask, np.asarray(probabilities, np.float32))
