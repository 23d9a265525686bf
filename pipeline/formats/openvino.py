"""Write and run OpenVINO IR files, for Intel and AMD processors: an XML file and a BIN file.

OpenVINO reads the model from an ONNX file. NNCF, of the OpenVINO project, quantizes it to int8.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import images
from pipeline.formats import IMAGE, Output, onnx
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
    """Writes a release as an XML file, with a BIN file beside it.

    Args:
      release: the released version.
      path: the XML file to write.
      examples: calibration photos for int8; None for float32.
      opset: opset of the intermediate ONNX file.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        onnx.write(release, onnx_file := Path(folder, "model.onnx"), opset=opset)
        model = openvino.Core().read_model(onnx_file)
        if examples is not None:
            model = _quantize(model, examples)
        for name, value in release.metadata().items():
            model.set_rt_info(value, ["model_info", name])
        openvino.save_model(model, path, compress_to_fp16=False)


def _quantize(model: Any, examples: Sequence[Example]) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # turns NNCF's telemetry off
    import nncf

    nncf.set_log_level(logging.ERROR)
    operations = model.get_ordered_ops()
    first = next(i for i, each in enumerate(operations) if "Convolution" in each.get_type_name())
    # Resizing precedes the first convolution and stays in float32: int8 would move pixels.
    resizing = [
        each.get_friendly_name()
        for each in operations[:first]
        if each.get_type_name() not in ("Constant", "Parameter")
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(examples, lambda example: {IMAGE: example.pixels()[None]}),
        subset_size=len(examples),
        ignored_scope=nncf.IgnoredScope(names=resizing, validate=False),
    )


class Runner:
    """Runs a file in OpenVINO, on the CPU, at the precision of the file."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import openvino

        # By default, OpenVINO uses half precision if the processor supports it.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        model = core.read_model(path)
        key = ["model_info", contract.EXIF]
        has_exif = model.has_rt_info(key)
        self.exif = model.get_rt_info(key).astype(str) if has_exif else contract.AS_STORED
        self._model = core.compile_model(model, "CPU", options)
        self._request = self._model.create_infer_request()

    def __call__(self, photos: images.Pixels) -> Output:
        """Segments photos, uint8 [batch, height, width, 3]."""
        outputs = self._request.infer({IMAGE: photos})
        mask, probabilities = (
            outputs[self._model.output(name)].copy()
            for name in (contract.MASK, contract.PROBABILITIES)
        )
        return Output(mask, probabilities)
