"""Run a compiled pipeline on this machine the way a server does, one task at a time.

Replaces exactly the placeholders that a server does (source: kubeflow/pipelines 2.17.0). The
driver replaces placeholders of the run that are the whole input of a task. The launcher replaces,
in a container's arguments, the inputs and outputs of its task. kfp's local runner replaces more,
and evaluates conditions on a task's output differently.
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
    """The container of a task."""

    task: str  # display name
    command: list[str]
    retries: int = 0
    memory: float = 0  # limit in GB; 0: no limit


class Orchestration:
    """One run of a compiled pipeline."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        run_id: str,
        root: Path,
        execute: Callable[[Container], int],
    ) -> None:
        """Prepare the run.

        Args:
          spec: the first document of the compiled file.
          run_id: id of the run.
          root: folder for outputs of tasks, with the same path in the containers.
          execute: runs a container and returns its exit code.
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
        """Run all tasks whose conditions hold; return whether all succeeded.

        Args:
          parameters: values of the pipeline's parameters; the others have their defaults.

        Raises:
          UserError: if a container's arguments have a placeholder that no server replaces, or the
            pipeline has a condition that this class does not support.
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
            upstream = task.get("dependentTasks", [])
            # Like Argo, skip tasks downstream of skipped ones.
            if not last and (failed or any(each not in outputs for each in upstream)):
                continue
            values = {
                name: self._value(each, inputs, outputs)
                for name, each in task.get("inputs", {}).get("parameters", {}).items()
            }
            if not _holds(task.get("triggerPolicy", {}).get("condition", ""), values):
                continue
            task_outputs = self._task(key, task, values)
            if task_outputs is None:
                failed = True
            else:
                outputs[key] = task_outputs
        return not failed

    def _value(
        self,
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Mapping[str, str]],
    ) -> Any:
        """Return the value of a task's input."""
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
        """Run a task and return its output parameters; None if it failed."""
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
        """Build KFP's ExecutorInput message: a task's inputs, and the paths of its outputs."""
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
    inputs = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: each["defaultValue"] for name, each in inputs.items() if "defaultValue" in each}


def _holds(condition: str, values: Mapping[str, Any]) -> bool:
    if not condition:
        return True
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise UserError(
            f"A rehearsal cannot evaluate the condition {condition!r}; submit the pipeline to a "
            "server instead."
        )
    return bool(values[match[1]] == match[2])


def _replaced(text: str, message: Mapping[str, Any], task: str) -> str:
    """Replace the placeholders in an argument of a container, as the launcher does."""
    outputs = message["outputs"]
    replacements = {"{{$}}": json.dumps(message)}
    for name, value in message["inputs"]["parameterValues"].items():
        replacements[f"{{{{$.inputs.parameters['{name}']}}}}"] = _text(value)
    for name, each in outputs["parameters"].items():
        replacements[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = each["outputFile"]
    for name, each in outputs["artifacts"].items():
        uri = each["artifacts"][0]["uri"]
        for attribute in ("path", "uri"):
            replacements[f"{{{{$.outputs.artifacts['{name}'].{attribute}}}}}"] = uri

    def replace(match: re.Match[str]) -> str:
        if match[0] not in replacements:
            raise UserError(
                f"The arguments of the task {task} contain {match[0]}, which no server replaces; "
                "pass it as an input of the task."
            )
        return replacements[match[0]]

    return _PLACEHOLDER.sub(replace, text)


def _text(value: Any) -> str:
    """Format a value as the launcher does."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
