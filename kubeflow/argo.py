"""Find the components of a run among the server's tasks, which are Argo's nodes.

The server lists the nodes in random order, each under the last part of its name only:
``trainer-driver``, ``trainer``, ``trainer(0)``, ``executor``, ``executor(0)``. The graph determines
the full names, such as ``segmentation-v8n79(0).root(0).exit-handler-1(0).trainer(0).executor(0)``,
where ``(0)`` is the first attempt of a node that may be retried. A node's id is the name of the
workflow plus the 32-bit FNV-1a hash of the full name. Nodes list the ids of their children, which
connects the two. Source: Kubeflow Pipelines 2.17.0 and Argo 4.0.8; the tests use a recording.
"""

from __future__ import annotations

import datetime
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubeflow.answers import Run, Task, seconds
from kubeflow.package import Step

RUNNING, SUCCEEDED, FAILED, SKIPPED = "RUNNING", "SUCCEEDED", "FAILED", "SKIPPED"
_DRIVER_TEMPLATE = "system-container-driver"  # the pod that prepares a task


@dataclass(frozen=True)
class Component:
    """The state of one component of a run.

    Attributes:
      name: its display name.
      state: RUNNING, SUCCEEDED, FAILED or SKIPPED.
      seconds: from the request for its first pod to the end of its last pod; None while it is
        running or if it had no pod.
      end: end of the last pod; None in the same cases.
      attempts: number of its pods.
      pod: name of the last pod, on servers since 2.14; None if there was none.
    """

    name: str
    state: str
    seconds: float | None = None
    end: datetime.datetime | None = None
    attempts: int = 0
    pod: str | None = None


def components(run: Run, steps: Sequence[Step]) -> list[Component]:
    """List the components that have started or were skipped, in the order of the graph.

    Args:
      run: the run in its current state.
      steps: all steps of its pipeline. If several sub-graphs contain a component, the one that
        runs counts.
    """
    nodes = _Nodes(run.tasks)
    by_name: dict[str, list[Component | None]] = defaultdict(list)
    for step in steps:
        by_name[step.name].append(nodes.component(step))
    result = []
    for occurrences in by_name.values():
        known = [each for each in occurrences if each]
        started = [each for each in known if each.state != SKIPPED]
        if started:
            result.append(started[-1])
        elif len(known) == len(occurrences):
            result.append(known[0])
    return result


class _Nodes:
    """A run's nodes, by name."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._parents: dict[str, list[Task]] = defaultdict(list)
        self._states: set[tuple[str, str | None]] = set()
        for task in tasks:
            self._states.add((task.name, task.state))
            for child in task.children:
                self._parents[child].append(task)
        self._workflow = next(iter(self._parents), "").rpartition("-")[0]

    def component(self, step: Step) -> Component | None:
        """Return the state of a step; None if the run has not reached it."""
        parents = self._attempts(self._workflow)
        for part in ("root", *step.path[:-1]):
            parents = [each for name in parents for each in self._attempts(f"{name}.{part}")]
        for name in reversed([f"{each}.{step.path[-1]}" for each in parents]):
            component = self._at(name, step)
            if component:
                return component
        if any((part, SKIPPED) in self._states for part in step.path):
            return Component(step.name, SKIPPED)
        return None

    def _at(self, name: str, step: Step) -> Component | None:
        attempts = self._attempts(name)
        executors = [f"{each}.executor" for each in attempts if self._has(f"{each}.executor")]
        pods = [pod for each in executors for pod in self._attempts(each)]
        task = self._find(step.path[-1], [*attempts, *executors])
        if pods and task and task.state in (RUNNING, SUCCEEDED, FAILED):
            return Component(
                step.name,
                task.state,
                seconds(task.begin, task.end),
                task.end,
                len(pods),
                self._pod(step.template, pods[-1]),
            )
        drivers = self._attempts(f"{name}-driver")
        driver = self._find(f"{step.path[-1]}-driver", [*drivers, name])
        if driver and driver.state == FAILED:
            pod = self._pod(_DRIVER_TEMPLATE, drivers[-1])
            return Component(step.name, FAILED, end=driver.end, pod=pod)
        return None

    def _find(self, part: str, children: Iterable[str]) -> Task | None:
        """Find the task whose name ends in `part` and that has one of these children."""
        for child in children:
            for task in self._parents.get(self._id(child), ()):
                if task.name == part:
                    return task
        return None

    def _attempts(self, name: str) -> list[str]:
        """Return the names of a node's attempts, or its own name if it cannot be retried."""
        names = (f"{name}({number})" for number in itertools.count())
        return list(itertools.takewhile(self._has, names)) or [name]

    def _has(self, name: str) -> bool:
        return self._id(name) in self._parents

    def _id(self, name: str) -> str:
        return f"{self._workflow}-{_hash(name)}"

    def _pod(self, template: str, name: str) -> str:
        return f"{self._workflow}-{template}-{_hash(name)}"


def _hash(name: str) -> int:
    """Return the 32-bit FNV-1a hash."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value
