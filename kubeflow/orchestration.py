"""Runs a compiled pipeline on this machine as a server does, one task at a time.

What the server's driver and launcher replace was read in their source (kubeflow/pipelines, 2.17.0),
and no more is replaced here: the driver, the placeholders of a run where one is a task's whole
input; the launcher, in a container's arguments, that task's inputs and outputs. kfp's own local
runner replaces more, and reads conditions on a task's output otherwise.
"""

from __future__ import annotations

import graphlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError

_PLACEHOLDER = re.compile(r"\{\{\$.*?\}\}")
_CONDITION = re.compile(r"inputs\.parameter_values\['([^']+)'\] == '([^']*)'")
_AT_THE_END = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass(frozen=True)
class Container:
    """What a task's container runs."""

    task: str  # as people read it
    command: list[str]
    retries: int = 0  # how often it is tried again
    memory: float = 0  # that it may have, GB; 0: no limit


class Orchestration:
    """One run of a compiled pipeline."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        run_id: str,
        root: Path,
        execute: Callable[[Container], int],
    ) -> None:
        """Takes the pipeline.

        Args:
          spec: the first document of the compiled file.
          run_id: of this run.
          root: folder for what tasks hand over, with the same path in the containers.
          execute: runs a container, and returns its exit code.
        """
        self._spec = spec
        self._root = root
        self._execute = execute
        self._for_inputs = {
            "{{$.pipeline_job_name}}": run_id,
            "{{$.pipeline_job_resource_name}}": run_id,
            "{{$.pipeline_job_uuid}}": run_id,
        }

    def run(self, parameters: Mapping[str, Any]) -> bool:
        """Runs the tasks whose turn it is; returns whether none failed.

        Args:
          parameters: values of the pipeline's own; defaults stand in for others.

        Raises:
          UserError: the server would leave something in a container's arguments as it is, or this
            class cannot do what the pipeline asks for.
        """
        return self._dag(self._spec["root"], parameters)

    def _dag(self, component: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        inputs = {**_defaults(component), **given}
        tasks = component["dag"]["tasks"]
        outputs: dict[str, Mapping[str, str]] = {}  # of the tasks that succeeded
        failed = False
        for key in _in_order(tasks):
            task = tasks[key]
            last = task.get("triggerPolicy", {}).get("strategy") == _AT_THE_END
            waits = task.get("dependentTasks", [])
            # As in Argo: behind a task that was left out, a task is left out.
            if not last and (failed or any(each not in outputs for each in waits)):
                continue
            values = {
                name: self._value(each, inputs, outputs)
                for name, each in task.get("inputs", {}).get("parameters", {}).items()
            }
            if not _holds(task.get("triggerPolicy", {}).get("condition", ""), values):
                continue
            made = self._task(key, task, values)
            if made is None:
                failed = True
            else:
                outputs[key] = made
        return not failed

    def _value(
        self,
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Mapping[str, str]],
    ) -> Any:
        """The value of a task's input."""
        if "componentInputParameter" in given:
            return inputs[given["componentInputParameter"]]
        if "taskOutputParameter" in given:
            source = given["taskOutputParameter"]
            return outputs[source["producerTask"]][source["outputParameterKey"]]
        value = given["runtimeValue"]["constant"]
        return self._for_inputs.get(value, value) if isinstance(value, str) else value

    def _task(
        self, key: str, task: Mapping[str, Any], values: Mapping[str, Any]
    ) -> Mapping[str, str] | None:
        """Runs a task; its output parameters, None if it failed."""
        component = self._spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            return {} if self._dag(component, values) else None
        name = task["taskInfo"]["name"]
        container = self._spec["deploymentSpec"]["executors"][component["executorLabel"]][
            "container"
        ]
        message = self._executor_input(key, component, {**_defaults(component), **values})
        files = {
            name: Path(each["outputFile"])
            for name, each in message["outputs"]["parameters"].items()
        }
        command = [
            _replaced(text, message, name)
            for text in (*container["command"], *container.get("args", []))
        ]
        retries = int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        memory = float(container.get("resources", {}).get("memoryLimit", 0))
        if self._execute(Container(name, command, retries, memory)):
            return None
        return {name: path.read_text(encoding="utf-8") for name, path in files.items()}

    def _executor_input(
        self, key: str, component: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What KFP calls by that name: a task's inputs, and where its outputs go."""
        folder = self._root / key
        definitions = component.get("outputDefinitions", {})
        for kind in ("parameters", "artifacts"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        return {
            "inputs": {"parameterValues": dict(values)},
            "outputs": {
                "parameters": {
                    name: {"outputFile": str(folder / "parameters" / name)}
                    for name in definitions.get("parameters", {})
                },
                "artifacts": {
                    name: {
                        "artifacts": [
                            {
                                "name": name,
                                "type": each["artifactType"],
                                "uri": str(folder / "artifacts" / name),
                                "metadata": {},
                            }
                        ]
                    }
                    for name, each in definitions.get("artifacts", {}).items()
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }


def _in_order(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    sorter = graphlib.TopologicalSorter(
        {key: task.get("dependentTasks", []) for key, task in tasks.items()}
    )
    return iter(tuple(sorter.static_order()))


def _defaults(component: Mapping[str, Any]) -> dict[str, Any]:
    known = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: each["defaultValue"] for name, each in known.items() if "defaultValue" in each}


def _holds(condition: str, values: Mapping[str, Any]) -> bool:
    if not condition:
        return True
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise UserError(f"A rehearsal cannot read the condition {condition!r}.")
    return values[match[1]] == match[2]


def _replaced(text: str, message: Mapping[str, Any], task: str) -> str:
    """An argument of a container, with what the launcher puts into it."""
    outputs = message["outputs"]
    known = {"{{$}}": json.dumps(message)}
    for name, value in message["inputs"]["parameterValues"].items():
        known[f"{{{{$.inputs.parameters['{name}']}}}}"] = _text(value)
    for name, each in outputs["parameters"].items():
        known[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = each["outputFile"]
    for name, each in outputs["artifacts"].items():
        for what in ("path", "uri"):
            known[f"{{{{$.outputs.artifacts['{name}'].{what}}}}}"] = each["artifacts"][0]["uri"]

    def replace(match: re.Match[str]) -> str:
        if match[0] not in known:
            raise UserError(
                f"The task {task} would get {match[0]} as it stands: no server replaces that in a "
                "container's arguments."
            )
        return known[match[0]]

    return _PLACEHOLDER.sub(replace, text)


def _text(value: Any) -> str:
    """A value as the launcher writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
