"""Write a model repository for NVIDIA's Triton Inference Server, with a release as an ONNX file.

    <repository>/<model>/config.pbtxt       inputs, outputs, batching
    <repository>/<model>/labels.txt         class names, one per line, by class id
    <repository>/<model>/<version>/model.onnx

`labels.txt` is for users. `config.pbtxt` does not mention it, because Triton ranks the values of
all pixels together, so the labels would be those of the first pixel.

Source: model_config.proto, docs/user_guide/model_repository.md and, for labels,
docs/protocol/extension_classification.md of the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.conversion import converter
from pipeline.core import features

MAX_BATCH = 16  # photos of the same size that the server may batch
_CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {batch}
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
]
output [
  {{ name: "mask" data_type: TYPE_UINT8 dims: [ {size}, {size} ] }},
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {size}, {size}, {classes} ] }}
]
dynamic_batching {{ }}
version_policy {{ latest {{ num_versions: 1 }} }}
"""


def write(
    bench: converter.Bench, repository: Path, opset: int | None = None, force: bool = False
) -> dict[str, Any]:
    """Writes a repository with one version of one model.

    Args:
      bench: the release, and the photos to compare on.
      repository: the folder to create.
      opset: ONNX opset.
      force: whether to keep a file that is not good enough.

    Returns:
      The result of `converter.make` for the ONNX file.

    Raises:
      ConversionError: see `converter.make`.
    """
    release = bench.release
    model = repository / release.name
    version = model / str(release.record["version"])
    version.mkdir(parents=True)
    facts = converter.make("onnx", bench, version / "model.onnx", opset=opset, force=force)
    config = _CONFIG.format(
        name=release.name,
        batch=MAX_BATCH,
        size=release.size,
        classes=features.NUM_CLASSES,
    )
    (model / "config.pbtxt").write_text(config)
    (model / "labels.txt").write_text("".join(f"{name}\n" for name in features.CLASS_NAMES))
    return facts
