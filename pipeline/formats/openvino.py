"""OpenVINO IR, for Intel's and AMD's processors: an XML file and its weights in a BIN file beside.

Read from the ONNX file. 8 bits by NNCF, which OpenVINO's authors keep.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import images
from pipeline.formats import IMAGE, Answer, onnx
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
    """Writes the two files of a release.

    Args:
      release: of which version.
      path: the XML file.
      examples: whose photos 8 bits are calibrated on; None: as floats.
      opset: of the ONNX file in between.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        onnx.write(release, between := Path(folder, "model.onnx"), opset=opset)
        model = openvino.Core().read_model(between)
        if examples is not None:
            model = _quantize(model, examples)
        for name, value in release.metadata().items():
            model.set_rt_info(value, ["model_info", name])
        openvino.save_model(model, path, compress_to_fp16=False)


def _quantize(model: Any, examples: Sequence[Example]) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # else it tells its authors of each use
    import nncf

    nncf.set_log_level(logging.ERROR)
    operations = model.get_ordered_ops()
    first = next(i for i, each in enumerate(operations) if "Convolution" in each.get_type_name())
    # Resizing comes before the first convolution: eight bits would move pixels.
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
    """Asks a file through OpenVINO, on the CPU, in the precision that the file has."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import openvino

        # Left to itself it takes half precision where the processor has it.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        model = core.read_model(path)
        place = ["model_info", contract.EXIF]
        said = model.has_rt_info(place)
        self.exif = model.get_rt_info(place).astype(str) if said else contract.AS_STORED
        self._model = core.compile_model(model, "CPU", options)
        self._request = self._model.create_infer_request()

    def __call__(self, photos: images.Pixels) -> Answer:
        """Segments photos, uint8 [batch, h, w, 3]."""
        found = self._request.infer({IMAGE: photos})
        mask, probabilities = (
            found[self._model.output(name)].copy()
            for name in (contract.MASK, contract.PROBABILITIES)
        )
        return Answer(mask, probabilities)
