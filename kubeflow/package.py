"""A compiled pipeline file, and the values of its parameters, checked before anything is sent."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_TYPE_NAMES = {
    "STRING": "a text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a mapping",
}


@dataclass(frozen=True)
class Spec:
    """What is needed of a pipeline's specification.

    Attributes:
      name: of the pipeline.
      parameters: name to definition, as in the file: ``parameterType``, ``isOptional``, ...
      tasks: names of the top-level tasks: in the graph, and for people.
    """

    name: str
    parameters: Mapping[str, Mapping[str, Any]]
    tasks: frozenset[str]


@dataclass(frozen=True)
class Package:
    """A compiled pipeline file; ``digest`` is the SHA-256 of its bytes, in hex."""

    path: Path
    digest: str
    spec: Spec


def read(path: Path) -> Package:
    """Reads a compiled pipeline.

    Raises:
      UserError: if the file cannot be read or is no pipeline of Kubeflow Pipelines 2.
    """
    again = "make one with python -m kubeflow compile --output FILE"
    if path.suffix not in (".yaml", ".yml"):  # the SDK goes by the name
        raise UserError(f"The package {path} must be a .yaml file; {again}.")
    try:
        content = path.read_bytes()
        documents = list(yaml.safe_load_all(content))
    except OSError as error:
        raise UserError(f"Cannot read the package {path}: {error.strerror}; {again}.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"The package {path} is not valid YAML; {again}.") from None
    spec = read_spec(documents[0]) if documents else None
    if spec is None:
        raise UserError(
            f"The package {path} is no compiled pipeline of Kubeflow Pipelines 2; {again}."
        )
    return Package(path, hashlib.sha256(content).hexdigest(), spec)


def read_spec(document: Any) -> Spec | None:
    """Takes what is needed from a specification; None if it is none.

    Args:
      document: the first document of a package, or what the server holds of a version: the same, or
        a mapping with both documents under ``pipeline_spec`` and ``platform_spec``.
    """
    if isinstance(document, Mapping) and isinstance(document.get("pipeline_spec"), Mapping):
        document = document["pipeline_spec"]
    try:
        root = document["root"]
        return Spec(
            str(document["pipelineInfo"]["name"]),
            root.get("inputDefinitions", {}).get("parameters", {}),
            frozenset(name for task in root["dag"]["tasks"].items() for name in _names(*task)),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _names(key: str, task: Mapping[str, Any]) -> tuple[str, ...]:
    return (key, str(task.get("taskInfo", {}).get("name", key)))


def read_parameters(assignments: Sequence[str], spec: Spec) -> dict[str, Any]:
    """Reads ``NAME=VALUE`` strings; VALUE is YAML, except where the pipeline wants a text.

    Raises:
      UserError: for an unknown name, a value of the wrong type, or a required one without a value.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise UserError(f"--param takes NAME=VALUE, but got {assignment!r}.")
        if name not in spec.parameters:
            close = difflib.get_close_matches(name, list(spec.parameters), n=1)
            known = ", ".join(sorted(spec.parameters)) or "none"
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {known}."
            raise UserError(f"The pipeline {spec.name!r} has no parameter {name!r}; {hint}")
        values[name] = _value(name, text, str(spec.parameters[name].get("parameterType")))
    missing = [
        name
        for name, definition in spec.parameters.items()
        if name not in values
        and not definition.get("isOptional")
        and "defaultValue" not in definition
    ]
    if missing:
        raise UserError(
            f"The pipeline {spec.name!r} needs a value for {', '.join(sorted(missing))}; "
            f"pass --param NAME=VALUE."
        )
    return values


def _value(name: str, text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    wanted = _PYTHON_TYPES.get(kind)
    # bool is an int to Python, and no number to anybody else.
    if wanted and (
        not isinstance(value, wanted) or (isinstance(value, bool) and kind != "BOOLEAN")
    ):
        raise UserError(f"--param {name} is {text!r}; it must be {_TYPE_NAMES[kind]}.")
    return value
