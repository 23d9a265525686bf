"""A compiled pipeline file, and the values of its parameters, checked before anything is sent."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline.core import yaml_text
from pipeline.core.errors import UserError

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
class Step:
    """One place in the graph where a component runs.

    Attributes:
      name: of the component, for people.
      path: names of the sub-graphs that it is in, from the outermost on, and its own, as Argo has
        them.
      template: the part of its pods' names that says how Argo runs it.
    """

    name: str
    path: tuple[str, ...]
    template: str


@dataclass(frozen=True)
class Spec:
    """What is needed of a pipeline's specification.

    Attributes:
      name: of the pipeline.
      description: what it does, in a sentence or more.
      parameters: name to definition, as in the file: ``parameterType``, ``defaultValue``, ...
      steps: of all sub-graphs, each after those it depends on.
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
    """Reads a compiled pipeline.

    Raises:
      UserError: if the file cannot be read or is no pipeline of Kubeflow Pipelines 2.
    """
    again = "make one with python -m kubeflow compile --output FILE"
    if path.suffix not in (".yaml", ".yml"):  # the SDK goes by the name
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
            f"The package {path} is no compiled pipeline of Kubeflow Pipelines 2; {again}."
        )
    return Package(path, hashlib.sha256(content).hexdigest(), spec)


def describe(package: Package) -> str:
    """What the web page shows of a version: what it does, each parameter's help, the digest.

    The digest is cut to 128 bits, which fit into the page's box; `kubeflow.answers` reads it.
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
    """Takes what is needed from a specification; None if it is none.

    Args:
      document: the first document of a package, or what the server holds of a version: the same, or
        a mapping with both documents under ``pipeline_spec`` and ``platform_spec``.
      platform: the second document, if there is one.
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
    """The steps of a component that is a graph, and of all graphs in it."""
    tasks = component["dag"]["tasks"]
    depends = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    for name in TopologicalSorter(depends).static_order():
        task = tasks[name]
        path = (*above, name)
        if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
            # What ends a sub-graph whatever becomes of it is a hook of that one's node.
            path = (*above, f"{depends[name][0]}.onExit", name)
        inner = document["components"][task["componentRef"]["name"]]
        if "dag" in inner:
            yield from _steps(inner, document, platform, path)
        else:
            label = task.get("taskInfo", {}).get("name", name)
            yield Step(str(label), path, _template(task, platform.get(inner["executorLabel"], {})))


def _template(task: Mapping[str, Any], platform: Mapping[str, Any]) -> str:
    """Name of the Argo template that runs a container, as the server makes it since 2.14."""
    name = "retry-system-container-impl" if "retryPolicy" in task else "system-container-impl"
    if metadata := platform.get("podMetadata"):
        counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
        name = f"metadata-{'-'.join(map(str, counts))}-{name}"
    return name


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
            f"pass --param NAME=VALUE."
        )
    return values


def complete(values: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """Adds the defaults of all other parameters, so that a run's page shows each value."""
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
    # bool is an int to Python, and no number to anybody else.
    if wanted and (
        not isinstance(value, wanted) or (isinstance(value, bool) and kind != "BOOLEAN")
    ):
        raise UserError(f"--param {name} is {text!r}; it must be {_TYPE_NAMES[kind]}.")
    choices = definition.get("literals")
    if choices and value not in choices:
        allowed = ", ".join(map(str, choices))
        raise UserError(f"--param {name} is {text!r}; it must be one of {allowed}.")
    return value
