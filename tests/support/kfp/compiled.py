"""Compiled pipelines, taken apart."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeflow import compiler, settings


class Compiled:
    """A compiled pipeline, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spec, self.platform = list(yaml.load_all(text, yaml.CSafeLoader))
        self.parts = self.dag("train-and-release")
        self.tasks = self.dag("from-data-to-release")

    def dag(self, part: str) -> dict[str, Any]:
        """The tasks of a part of the graph, by key."""
        tasks: dict[str, Any] = self.spec["components"][f"comp-{part}"]["dag"]["tasks"]
        return tasks

    def executor(self, task: str) -> dict[str, Any]:
        container: dict[str, Any] = self.spec["deploymentSpec"]["executors"][f"exec-{task}"][
            "container"
        ]
        return container

    def pod(self, task: str) -> dict[str, Any]:
        executors = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        pod: dict[str, Any] = executors[f"exec-{task}"]
        return pod

    def upstream(self, part: str = "from-data-to-release") -> dict[str, set[str]]:
        """What each task waits for, by the names that people read."""
        names = {key: task["taskInfo"]["name"] for key, task in self.dag(part).items()}
        return {
            names[key]: {names[each] for each in task.get("dependentTasks", [])}
            for key, task in self.dag(part).items()
        }


def compiled(*overrides: str) -> Compiled:
    chosen = settings.load([settings.EXAMPLE_CONFIG], overrides)
    return Compiled(compiler.compile_pipeline(chosen))


@pytest.fixture(scope="module")
def example() -> Compiled:
    return compiled()


def admits(pod: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether the pod's affinity lets it onto a node, as Kubernetes' scheduler reads it."""
    return any(
        all(
            e["operator"] == "NotIn" and labels.get(e["key"]) not in e["values"]
            for e in term["matchExpressions"]
        )
        for term in pod["nodeAffinity"]
    )
