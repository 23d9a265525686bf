"""The contract of an exported model, checked on its files without building its graph.

The constants are the names of the signatures that servers, the gate and `pipeline.cli.predict`
call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core import features

SERVE = "serving_default"
IMAGE_BYTES = "image_bytes"  # string [batch], encoded photos
MASK = "mask"  # class ids, uint8 [batch, size, size]
PROBABILITIES = "probabilities"  # float32 [batch, size, size, 3]

# For servers that batch the photos of several clients, and for small responses. TensorFlow
# Serving's REST API encodes outputs whose name ends in _bytes as base64.
SERVE_PNG = "serving_png"  # takes `IMAGE_BYTES`
MASK_PNG = "mask_png_bytes"  # string [batch], grey PNGs of class ids
VALID = "valid"  # bool [batch], whether the photo was decoded

EVALUATE = "evaluate"
EXAMPLES = "examples"  # string [batch], serialised raw examples
CONFUSION = "confusion"  # float32 [batch, 9]; a model may have more outputs

SEGMENT = "segment_examples"  # takes `EXAMPLES`; for the report, optional

# A JSON file in a SavedModel with facts that its signatures lack: ``classes``, the class names by
# class id, and ``exif``, "apply" if the model rotates a photo by its EXIF orientation.
FACTS = os.path.join("assets.extra", "model.json")
CLASSES, EXIF, AS_STORED, APPLY = "classes", "exif", "as_stored", "apply"

_Tensors = Mapping[str, tuple[str, list[int]]]  # dtype and shape by name; -1: any size


class ContractError(Exception):
    """A model cannot be evaluated or served; the message is a clause that says why."""


def check(model_path: str, image_size: int) -> None:
    """Checks that a fresh export keeps the contract.

    Args:
      model_path: a SavedModel.
      image_size: the expected side of its masks, pixels.

    Raises:
      ContractError: if it does not.
    """
    fault = incompatibility(model_path) or unservable(model_path)
    size = None if fault else mask_size(model_path)
    if not fault and size != image_size:
        fault = f"its masks are {size}x{size} pixels, but transform.image_size is {image_size}"
    if fault:
        raise ContractError(f"the exported model cannot be evaluated, because {fault}")


def incompatibility(model_path: str) -> str | None:
    """Why a SavedModel can be neither evaluated nor served, in one clause; None if it can.

    Checks the names, types and shapes of its signatures, and the checksums of its weights. An old
    model whose only count is the confusion matrix is accepted.
    """
    if fault := missing(model_path):
        return fault
    try:
        signatures = _signatures(model_path)
        _read_weights(model_path)
        exif(model_path)
    except Exception as error:  # TensorFlow raises many kinds of errors for a damaged file
        message = " ".join(str(error).replace(model_path, "").split()).rstrip(".")[:150]
        return f"it is damaged ({type(error).__name__}: {message})"
    for name, inputs, outputs in (
        (SERVE, [IMAGE_BYTES], [MASK, PROBABILITIES]),
        (EVALUATE, [EXAMPLES], [CONFUSION]),
    ):
        if name not in signatures:
            names = ", ".join(sorted(signatures)) or "none"
            return f"it has no signature {name!r} (it has: {names})"
        actual_inputs, actual_outputs = signatures[name]
        if set(actual_inputs) != set(inputs) or not set(outputs) <= set(actual_outputs):
            return (
                f"its signature {name!r} takes {_list(actual_inputs)} and returns"
                f" {_list(actual_outputs)}, not {_list(inputs)} and {_list(outputs)}"
            )
    served, size = signatures[SERVE][1], mask_size(model_path)
    classes = features.NUM_CLASSES
    expected: _Tensors = {
        MASK: ("uint8", [-1, size, size]),
        PROBABILITIES: ("float32", [-1, size, size, classes]),
    }
    for name, tensor in expected.items():
        if served[name] != tensor:
            actual, wanted = (f"{dtype} {shape}" for dtype, shape in (served[name], tensor))
            return f"its output {name} is {actual}, not {wanted}"
    shape = signatures[EVALUATE][1][CONFUSION][1]
    if shape[1:] not in ([classes**2], [-1]):
        return f"its confusion matrix has {shape[-1]} cells, not {classes**2}"
    return None


def missing(model_path: str) -> str | None:
    """Which file of a SavedModel is missing, in one clause; None if it can be loaded."""
    import tensorflow as tf

    gfile = tf.io.gfile
    graphs = ("saved_model.pb", "saved_model.pbtxt")
    if not any(gfile.exists(os.path.join(model_path, name)) for name in graphs):
        return "its saved_model.pb is missing"
    folder = os.path.join(model_path, "variables")
    if not gfile.isdir(folder):
        return "its folder variables/ is missing"
    names = gfile.listdir(folder)
    for start in ("variables.index", "variables.data-"):
        if not any(name.startswith(start) for name in names):
            return f"a file of its weights, variables/{start.rstrip('-')}, is missing"
    return None


def mask_size(model_path: str) -> int:
    """Side of the masks that a SavedModel returns, pixels; -1 if it is not fixed."""
    shape = _signatures(model_path)[SERVE][1][MASK][1]
    return shape[-1] if shape else -1


def exif(model_path: str) -> str:
    """How a SavedModel treats the EXIF orientation of photos: `AS_STORED` or `APPLY`.

    Raises:
      ValueError: if `FACTS` is damaged.
    """
    value: str = read_facts(model_path).get(EXIF, AS_STORED)
    if value not in (AS_STORED, APPLY):
        raise ValueError(f"{FACTS} has an unknown value of {EXIF!r}")
    return value


def read_facts(model_path: str) -> dict[str, Any]:
    """Reads `FACTS` of a SavedModel; empty if there is none.

    Raises:
      ValueError: if it is damaged.
    """
    import tensorflow as tf

    path = os.path.join(model_path, FACTS)
    if not tf.io.gfile.exists(path):  # an old model
        return {}
    with tf.io.gfile.GFile(path) as file:
        facts = json.load(file)
    if not isinstance(facts, dict):
        raise ValueError(f"{FACTS} is not a JSON object")
    return facts


def write_facts(model_path: str, exif: str) -> None:
    """Writes `FACTS` into a SavedModel.

    Args:
      model_path: the SavedModel's folder.
      exif: `AS_STORED` or `APPLY`.
    """
    import tensorflow as tf

    path = os.path.join(model_path, FACTS)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps({CLASSES: features.CLASS_NAMES, EXIF: exif}, indent=2) + "\n")


def unservable(model_path: str) -> str | None:
    """Why no server can run a SavedModel that fits the contract, in one clause; None if one can.

    TensorFlow Serving and TensorFlow's C, Java and Go APIs restore variables with the graph's
    restore operation. If a signature reads a variable that this operation does not write, every
    request fails.
    """
    graph = meta_graph(model_path)
    nodes = {node.name: node for node in graph.graph_def.node}
    variables = {name for name, node in nodes.items() if node.op == "VarHandleOp"}

    def variables_behind(operation: str) -> set[str]:
        """The variables that an operation depends on."""
        seen, waiting = set(), [operation]
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name not in seen:
                seen.add(name)
                waiting += nodes[name].input if name in nodes else ()
        return seen & variables

    restored = variables_behind(graph.saver_def.restore_op_name)
    lost = set()
    for name, signature in graph.signature_def.items():
        if name == "__saved_model_init_op":
            continue
        for output in signature.outputs.values():
            lost |= variables_behind(output.name) - restored
    if not lost:
        return None
    return (
        f"no server can run it, because only Python's loader restores {len(lost)} of its variables,"
        f" such as {min(lost)}"
    )


def meta_graph(model_path: str) -> Any:
    """Reads the MetaGraphDef of a SavedModel: its graph and signatures."""
    from tensorflow.python.saved_model import loader_impl  # the public API would load the model

    (graph,) = loader_impl.parse_saved_model(model_path).meta_graphs
    return graph


def _signatures(model_path: str) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Reads the inputs and outputs of each signature."""
    import tensorflow as tf

    def tensors(infos: Any) -> _Tensors:
        return {
            name: (
                tf.dtypes.as_dtype(info.dtype).name,
                [dimension.size for dimension in info.tensor_shape.dim],
            )
            for name, info in infos.items()
        }

    graph = meta_graph(model_path)
    return {
        name: (tensors(signature.inputs), tensors(signature.outputs))
        for name, signature in graph.signature_def.items()
        if not name.startswith("__")
    }


def _read_weights(model_path: str) -> None:
    """Reads every variable, so that TensorFlow verifies the checksums; raises on a damaged one."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(os.path.join(model_path, "variables", "variables"))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
