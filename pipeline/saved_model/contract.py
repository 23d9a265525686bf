"""What an exported model must offer, read from its files without building its graph.

The names below are those of the signatures that servers, the gate and `pipeline.cli.predict` call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core import features

SERVE = "serving_default"
IMAGE_BYTES = "image_bytes"  # string [batch], an encoded photo each
MASK = "mask"  # class ids, uint8 [batch, size, size]
PROBABILITIES = "probabilities"  # float32 [batch, size, size, 3]

# For servers that join the photos of several people, and for small answers. The ending of the name
# is what has TensorFlow Serving's REST interface encode it as base64.
SERVE_PNG = "serving_png"  # takes `IMAGE_BYTES`
MASK_PNG = "mask_png_bytes"  # string [batch], a grey PNG of class ids each
VALID = "valid"  # bool [batch], whether the photo could be decoded

EVALUATE = "evaluate"
EXAMPLES = "examples"  # string [batch], a serialized raw example each
CONFUSION = "confusion"  # float32 [batch, 9]; a model may count more than that

SEGMENT = "segment_examples"  # takes `EXAMPLES`; for the report, which can do without

# A JSON file in a SavedModel with what its signatures do not say: ``classes``, the names of the
# classes in the order of their ids, and ``exif``: "apply" if the model turns a photo as its EXIF
# orientation says.
FACTS = os.path.join("assets.extra", "model.json")
CLASSES, EXIF, AS_STORED, APPLY = "classes", "exif", "as_stored", "apply"

_Tensors = Mapping[str, tuple[str, list[int]]]  # dtype and shape by name; -1: any size


class MisfitError(Exception):
    """A model that cannot be judged or served; the message says why."""


def check(model_path: str, image_size: int) -> None:
    """Raises MisfitError, with one sentence, if a fresh export does not keep the contract.

    Args:
      model_path: a SavedModel.
      image_size: that its masks must have, pixels.
    """
    fault = misfit(model_path) or unservable(model_path)
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
    if fault := missing(model_path):
        return fault
    try:
        signatures = _signatures(model_path)
        _read_weights(model_path)
        exif(model_path)
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


def missing(model_path: str) -> str | None:
    """Which file a SavedModel lacks to be loaded, in one clause; None if all are there."""
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
    """Side of the masks that a SavedModel makes, pixels; -1 if it says none."""
    shape = _signatures(model_path)[SERVE][1][MASK][1]
    return shape[-1] if shape else -1


def exif(model_path: str) -> str:
    """What a SavedModel does with the EXIF orientation of photos: `AS_STORED` or `APPLY`.

    Raises:
      ValueError: `FACTS` is damaged.
    """
    said = read_facts(model_path).get(EXIF, AS_STORED)
    if said not in (AS_STORED, APPLY):
        raise ValueError(f"{FACTS} does not say what becomes of an EXIF orientation")
    return said


def read_facts(model_path: str) -> dict[str, Any]:
    """What `FACTS` of a SavedModel holds; empty if it has none.

    Raises:
      ValueError: it is damaged.
    """
    import tensorflow as tf

    path = os.path.join(model_path, FACTS)
    if not tf.io.gfile.exists(path):  # from before there were any
        return {}
    with tf.io.gfile.GFile(path) as file:
        said = json.load(file)
    if not isinstance(said, dict):
        raise ValueError(f"{FACTS} is not a JSON object")
    return said


def write_facts(model_path: str, exif: str) -> None:
    """Writes `FACTS` of a SavedModel.

    Args:
      model_path: its folder.
      exif: `AS_STORED` or `APPLY`.
    """
    import tensorflow as tf

    path = os.path.join(model_path, FACTS)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps({CLASSES: features.CLASS_NAMES, EXIF: exif}, indent=2) + "\n")


def unservable(model_path: str) -> str | None:
    """Why no server can run a SavedModel that fits, in one clause; None if they can.

    TensorFlow Serving, C, Java and Go give the graph's variables their values by its restore
    operation. One that a signature reads and that operation does not write fails each request.
    """
    graph = meta_graph(model_path)
    nodes = {node.name: node for node in graph.graph_def.node}
    variables = {name for name, node in nodes.items() if node.op == "VarHandleOp"}

    def handles(operation: str) -> set[str]:
        """The variables that lead into an operation."""
        seen, waiting = set(), [operation]
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name not in seen:
                seen.add(name)
                waiting += nodes[name].input if name in nodes else ()
        return seen & variables

    restored = handles(graph.saver_def.restore_op_name)
    lost = set()
    for name, signature in graph.signature_def.items():
        if name == "__saved_model_init_op":
            continue
        for output in signature.outputs.values():
            lost |= handles(output.name) - restored
    if not lost:
        return None
    return (
        f"no server can run it, because only Python's loader restores {len(lost)} of its variables,"
        f" such as {min(lost)}"
    )


def meta_graph(model_path: str) -> Any:
    """Graph and signatures of a SavedModel, as it holds them."""
    from tensorflow.python.saved_model import loader_impl  # no public way without loading

    (graph,) = loader_impl.parse_saved_model(model_path).meta_graphs
    return graph


def _signatures(model_path: str) -> dict[str, tuple[_Tensors, _Tensors]]:
    """Inputs and outputs of each signature."""
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
    """Reads every variable, whose checksums TensorFlow compares; raises if one is not whole."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(os.path.join(model_path, "variables", "variables"))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
