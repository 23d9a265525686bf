"""What an exported model must offer, read from its files without building its graph.

The names below are those of the signatures that servers, the gate and `pipeline.predict` call.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline import features

SERVE = "serving_default"
IMAGE_BYTES = "image_bytes"  # string [batch], an encoded photo each
MASK = "mask"  # class ids, uint8 [batch, size, size]
PROBABILITIES = "probabilities"  # float32 [batch, size, size, 3]

EVALUATE = "evaluate"
EXAMPLES = "examples"  # string [batch], a serialized raw example each
CONFUSION = "confusion"  # float32 [batch, 9]; a model may count more than that

SEGMENT = "segment_examples"  # takes `EXAMPLES`; for the report, which can do without

_Tensors = Mapping[str, tuple[str, list[int]]]  # dtype and shape by name; -1: any size


class MisfitError(Exception):
    """A model that cannot be judged or served; the message says why."""


def check(model_path: str, image_size: int) -> None:
    """Raises MisfitError, with one sentence, if a fresh export does not keep the contract.

    Args:
      model_path: a SavedModel.
      image_size: that its masks must have, pixels.
    """
    fault = misfit(model_path)
    size = None if fault else mask_size(model_path)
    if not fault and size != image_size:
        fault = f"its masks are {size}x{size} pixels, but transform.image_size is {image_size}"
    if fault:
        raise MisfitError(f"the exported model is not judged, since {fault}")


def misfit(model_path: str) -> str | None:
    """Why a SavedModel can be neither judged nor served, in one clause; None if it can.

    Looks at names, types and shapes of its signatures, and whether its weights are whole. A model
    that only counts a confusion matrix, from before there were other counts, fits.
    """
    try:
        signatures = _signatures(model_path)
        _read_weights(model_path)
    except Exception as error:  # TensorFlow raises many kinds for a damaged file
        what = " ".join(str(error).replace(model_path, "").split()).rstrip(".")[:150]
        return f"it is damaged ({type(error).__name__}: {what})"
    for name, inputs, outputs in (
        (SERVE, [IMAGE_BYTES], [MASK, PROBABILITIES]),
        (EVALUATE, [EXAMPLES], [CONFUSION]),
    ):
        if name not in signatures:
            found = ", ".join(sorted(signatures)) or "none"
            return f"it has no signature {name!r} (found: {found})"
        taken, given = signatures[name]
        if set(taken) != set(inputs) or not set(outputs) <= set(given):
            return (
                f"its signature {name!r} takes {_list(taken)} and gives {_list(given)}, not"
                f" {_list(inputs)} and {_list(outputs)}"
            )
    answer, size = signatures[SERVE][1], mask_size(model_path)
    classes = features.NUM_CLASSES
    wanted: _Tensors = {
        MASK: ("uint8", [-1, size, size]),
        PROBABILITIES: ("float32", [-1, size, size, classes]),
    }
    for name, expected in wanted.items():
        if answer[name] != expected:
            found, wished = (f"{dtype} {shape}" for dtype, shape in (answer[name], expected))
            return f"its {name} is {found}, not {wished}"
    counts = signatures[EVALUATE][1][CONFUSION][1]
    if counts[1:] not in ([classes**2], [-1]):
        return f"it counts {counts[-1]} cells of a confusion matrix, not those of {classes} classes"
    return None


def mask_size(model_path: str) -> int:
    """Side of the masks that a SavedModel makes, pixels; -1 if it says none."""
    shape = _signatures(model_path)[SERVE][1][MASK][1]
    return shape[-1] if shape else -1


def _signatures(model_path: str) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Inputs and outputs of each signature."""
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl  # no public way without loading

    def tensors(infos: Any) -> _Tensors:
        return {
            name: (
                tf.dtypes.as_dtype(info.dtype).name,
                [dimension.size for dimension in info.tensor_shape.dim],
            )
            for name, info in infos.items()
        }

    (graph,) = loader_impl.parse_saved_model(model_path).meta_graphs
    return {
        name: (tensors(signature.inputs), tensors(signature.outputs))
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }


def _read_weights(model_path: str) -> None:
    """Reads every variable, whose checksums TensorFlow compares; raises if one is not whole."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(os.path.join(model_path, "variables", "variables"))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
