"""The identity of a SavedModel: a digest that is the same for every export of the same model.

TensorFlow's files differ between exports of the same weights, because functions and nodes get other
names and another order. So the digest starts at the outputs of the signatures and goes backwards.
It covers the type, attributes and inputs of each operation, and the values of each weight. Names
matter only where callers use them: of signatures, and of their inputs and outputs.
"""

from __future__ import annotations

import graphlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from pipeline.saved_model import contract

_VARIABLE = "VarHandleOp"
# Attributes that do not affect what an operation computes.
_IRRELEVANT = {
    *("shared_name", "container", "debug_name"),
    *("config", "config_proto", "executor_type", "serialized_options"),
}


def of_model(model_path: str) -> str:
    """Hex digest of a SavedModel's graph with preprocessing, its weights and `contract.FACTS`.

    Raises:
      Exception: any error that TensorFlow raises for a damaged file.
    """
    graph = contract.meta_graph(model_path)
    walk = _Walk(graph.graph_def.library.function, _weights(model_path))
    value = walk.values(graph.graph_def.node, {})
    parts = [json.dumps(contract.read_facts(model_path), sort_keys=True)]
    for name, signature in graph.signature_def.items():
        if name.startswith("__"):
            continue
        for key, info in signature.inputs.items():
            parts.append(f"{name} takes {key} {_spec(info)} {value(info.name)}")
        for key, info in signature.outputs.items():
            parts.append(f"{name} gives {key} {_spec(info)} {value(info.name)}")
    return _digest(sorted(parts))


class _Walk:
    """Digests of the values in a graph and its functions."""

    def __init__(self, functions: Iterable[Any], weights: Mapping[str, str]):
        self._functions = {function.signature.name: function for function in functions}
        self._weights = weights
        self._called: dict[tuple[str, tuple[str, ...]], list[str]] = {}

    def values(self, nodes: Sequence[Any], arguments: Mapping[str, str]) -> Callable[[str], str]:
        """Walks a graph or a function's body; returns a function from a tensor to its digest.

        Args:
          nodes: the nodes of a GraphDef or FunctionDef.
          arguments: digests of the function's arguments, by name.
        """
        by_name = {node.name: node for node in nodes}
        digests = dict(arguments)
        called: dict[str, list[str]] = {}

        def value(tensor: str) -> str:
            name, _, output = tensor.partition(":")
            if name in called:  # "name:1" in a graph, "name:output:1" in a function
                return called[name][int(output.rpartition(":")[2] or 0)]
            return digests[name] if output in ("", "0") else f"{digests[name]}:{output}"

        predecessors = {
            node.name: [name for name in map(_node, node.input) if name in by_name]
            for node in nodes
        }
        for name in graphlib.TopologicalSorter(predecessors).static_order():
            node = by_name[name]
            inputs = [value(tensor) for tensor in _data(node)]
            control = {_node(tensor) for tensor in node.input if tensor.startswith("^")}
            # Assertions that run first, such as the check of a photo's size. Those of a call are in
            # the function's body.
            conditions = sorted({digests[each] for each in control if each in digests})
            if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                # Inlined, because the split of a graph into functions is arbitrary.
                called[name] = self._call(node.attr["f"].func.name, inputs)
            elif node.op == _VARIABLE:
                digests[name] = self._weight(node)
            elif node.op == "Placeholder":
                digests[name] = _digest(["input", name])
            else:
                digests[name] = _digest([node.op, *self._attributes(node), *inputs, *conditions])
        return value

    def _call(self, name: str, inputs: Sequence[str]) -> list[str]:
        """Digests of a function's outputs."""
        key = name, tuple(inputs)
        if key not in self._called:
            function = self._functions[name]
            arguments = [each.name for each in function.signature.input_arg]
            value = self.values(function.node_def, dict(zip(arguments, inputs, strict=True)))
            returned = [function.ret[each.name] for each in function.signature.output_arg]
            self._called[key] = [value(tensor) for tensor in returned]
        return self._called[key]

    def _weight(self, node: Any) -> str:
        name = node.attr["shared_name"].s.decode()
        # If the checkpoint has no such name, the variable may have any of its values.
        weight = self._weights.get(name) or _digest(sorted(self._weights.values()))
        return _digest([_VARIABLE, str(node.attr["dtype"].type), weight])

    def _attributes(self, node: Any) -> list[str]:
        return [
            f"{name}={self._attribute(node.attr[name])}"
            for name in sorted(node.attr)
            if not name.startswith("_") and name not in _IRRELEVANT
        ]

    def _attribute(self, value: Any) -> str:
        kind = value.WhichOneof("value")
        if kind == "tensor":
            return _digest_array(tf.make_ndarray(value.tensor))
        if kind == "func":
            return self._function(value.func.name)
        if kind == "list" and value.list.func:
            return _digest(self._function(each.name) for each in value.list.func)
        serialized: bytes = value.SerializeToString(deterministic=True)
        return serialized.hex()

    def _function(self, name: str) -> str:
        """Digest of a function that is an attribute, such as the body of a loop."""
        count = len(self._functions[name].signature.input_arg)
        return _digest(self._call(name, [f"argument {i}" for i in range(count)]))


def _data(node: Any) -> list[str]:
    """The data inputs of a node, without its control inputs (``^name``)."""
    return [tensor for tensor in node.input if not tensor.startswith("^")]


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _weights(model_path: str) -> dict[str, str]:
    """Digests of the weights, by variable name."""
    reader = tf.train.load_checkpoint(os.path.join(model_path, "variables", "variables"))
    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    )
    digests: dict[str, list[str]] = {}
    for each in (attribute for node in objects.nodes for attribute in node.attributes):
        digest = _digest_array(reader.get_tensor(each.checkpoint_key))
        digests.setdefault(each.full_name, []).append(digest)
    return {name: _digest(sorted(values)) for name, values in digests.items()}


def _spec(info: Any) -> str:
    return f"{info.dtype} {[dimension.size for dimension in info.tensor_shape.dim]}"


def _digest_array(array: npt.NDArray[Any]) -> str:
    content = array.tobytes() if array.dtype != object else repr(array.tolist()).encode()
    return _digest([str(array.dtype), str(array.shape), hashlib.sha256(content).hexdigest()])


def _digest(parts: Iterable[str]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(f"{len(part)} {part}".encode())
    return total.hexdigest()
