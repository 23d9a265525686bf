"""Read compiled pipeline files and check values of their parameters before sending anything."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline.core import yaml_text
from pipeline.core.errors import UserError
from pipeline.settings import loader

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_TYPE_NAMES = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a mapping",
}


@dataclass(frozen=True)
class Step:
    """One place in the graph where a component runs.

    Attributes:
      name: display name of the component.
      path: Argo's names of the enclosing sub-graphs, outermost first, and of the component.
      template: Argo's template name, a part of the names of its pods.
    """

    name: str
    path: tuple[str, ...]
    template: str


@dataclass(frozen=True)
class Spec:
    """The parts of a pipeline specification that the commands need.

    Attributes:
      name: name of the pipeline.
      description: what it does, in a sentence or more.
      parameters: definitions by name, as in the file: ``parameterType``, ``defaultValue``, ...
      steps: steps of all sub-graphs, in topological order.
    """

    name: str
    description: str
    parameters: Mapping[str, Mapping[str, Any]]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Package:
    """A compiled pipeline file; ``digest`` is the SHA-256 of its bytes, in hex."""

    path: Path
    digest: str
    spec: Spec


def read(path: Path) -> Package:
    """Read a compiled pipeline.

    Raises:
      UserError: if the file is unreadable or not a pipeline of Kubeflow Pipelines 2.
    """
    again = "create one with python -m kubeflow compile --output FILE"
    if path.suffix not in (".yaml", ".yml"):  # the SDK checks the suffix
        raise UserError(f"The package {path} must be a .yaml file; {again}.")
    try:
        content = path.read_bytes()
        documents = yaml_text.load_all(content.decode())
    except OSError as error:
        raise UserError(f"Cannot read the package {path}: {error.strerror}; {again}.") from None
    except (yaml_text.Malformed, UnicodeDecodeError):
        raise UserError(f"The package {path} is not valid YAML; {again}.") from None
    spec = read_spec(*documents[:2]) if documents else None
    if spec is None:
        raise UserError(
            f"The package {path} is not a compiled pipeline of Kubeflow Pipelines 2; {again}."
        )
    return Package(path, hashlib.sha256(content).hexdigest(), spec)


def describe(package: Package) -> str:
    """Write the description of a version for the UI: purpose, parameters, digest.

    The digest is shortened to 128 bits to fit into the UI's box; `kubeflow.answers` reads it.
    """
    helps = [
        f"- {name}: {definition['description']}"
        for name, definition in package.spec.parameters.items()
        if definition.get("description")
    ]
    parts = [
        package.spec.description,
        "\n".join(["Parameters of a run:", "", *helps]) if helps else "",
        f"Content: sha256:{package.digest[:32]}",
    ]
    return "\n\n".join(part for part in parts if part)


def read_spec(document: Any, platform: Any = None) -> Spec | None:
    """Parse a specification; None if it is not one.

    Args:
      document: the first document of a package, or a specification from the server: the same, or a
        mapping with both documents as ``pipeline_spec`` and ``platform_spec``.
      platform: the second document of the package, if there is one.
    """
    if isinstance(document, Mapping) and isinstance(document.get("pipeline_spec"), Mapping):
        document, platform = document["pipeline_spec"], document.get("platform_spec")
    try:
        info, root = document["pipelineInfo"], document["root"]
        executors = (platform or {}).get("platforms", {}).get("kubernetes", {})
        return Spec(
            str(info["name"]),
            str(info.get("description", "")),
            root.get("inputDefinitions", {}).get("parameters", {}),
            tuple(_steps(root, document, executors.get("deploymentSpec", {}).get("executors", {}))),
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None


def _steps(
    component: Mapping[str, Any],
    document: Mapping[str, Any],
    platform: Mapping[str, Any],
    above: tuple[str, ...] = (),
) -> Iterator[Step]:
    """List the steps of a graph and of all its sub-graphs."""
    tasks = component["dag"]["tasks"]
    depends = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    for name in TopologicalSorter(depends).static_order():
        task = tasks[name]
        path = (*above, name)
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
            # Argo runs an exit task as a hook of the sub-graph's node.
            path = (*above, f"{depends[name][0]}.onExit", name)
        inner = document["components"][task["componentRef"]["name"]]
        if "dag" in inner:
            yield from _steps(inner, document, platform, path)
        else:
            label = task.get("taskInfo", {}).get("name", name)
            yield Step(str(label), path, _template(task, platform.get(inner["executorLabel"], {})))


def _template(task: Mapping[str, Any], platform: Mapping[str, Any]) -> str:
    """Return the name of a container's Argo template on servers since 2.14."""
    name = "retry-system-container-impl" if "retryPolicy" in task else "system-container-impl"
    if metadata := platform.get("podMetadata"):
        counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
        name = f"metadata-{'-'.join(map(str, counts))}-{name}"
    return name


def read_parameters(assignments: Sequence[str], spec: Spec) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` strings; VALUE is YAML unless the parameter is a string.

    Raises:
      UserError: if a name is unknown, a value has the wrong type, or a required value is missing.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise UserError(f"--param is {assignment!r}; specify NAME=VALUE.")
        if name not in spec.parameters:
            hint = loader.nearest(name, sorted(spec.parameters))
            raise UserError(f"The pipeline {spec.name!r} has no parameter {name!r}; {hint}")
        values[name] = _value(name, text, spec.parameters[name])
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
            f"pass it with --param NAME=VALUE."
        )
    return values


def complete(values: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """Add the defaults of the other parameters, so that a run's page shows all values."""
    defaults = {
        name: definition["defaultValue"]
        for name, definition in spec.parameters.items()
        if "defaultValue" in definition
    }
    for name, value in defaults.items():
        if spec.parameters[name].get("parameterType") == "NUMBER_INTEGER":
            defaults[name] = int(value)  # the file has 50.0
    return {**defaults, **values}


def _value(name: str, text: str, definition: Mapping[str, Any]) -> Any:
    kind = str(definition.get("parameterType"))
    value: Any = text
    if kind != "STRING":
        try:
            value = yaml_text.load(text)
        except yaml_text.Malformed:
            value = None
    wanted = _PYTHON_TYPES.get(kind)
    # In Python, bool is a subclass of int.
    if wanted and (
        not isinstance(value, wanted) or (isinstance(value, bool) and kind != "BOOLEAN")
    ):
        raise UserError(f"--param {name} is {text!r}; it must be {_TYPE_NAMES[kind]}.")
    choices = definition.get("literals")
    if choices and value not in choices:
        allowed = ", ".join(map(str, choices))
        raise UserError(f"--param {name} is {text!r}; it must be one of {allowed}.")
    return value
