"""What a Kubeflow Pipelines server lists as the tasks of a run: Argo's nodes of its graph.

Names, states, histories and children are as recorded from 2.17.0 (tests/recordings); a test makes
both recorded runs anew.
"""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OMITTED = "OMITTED"  # what Argo makes of tasks that come after one that failed
DRIVER_FAILED = "DRIVER FAILED"  # of the task that Kubeflow Pipelines puts before each
_BEGIN = datetime.datetime(2026, 11, 24, 1, tzinfo=datetime.timezone.utc)
_NEVER = "0001-01-01T00:00:00Z"
_Tasks = Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """How a component stands at one look at the run."""

    state: str
    attempts: int = 1
    seconds: float = 90.0


@dataclass
class Nodes:
    """The nodes of a run of a pipeline.

    Attributes:
      spec: the first document of the compiled pipeline.
      workflow: name of the workflow.
      looks: component to how it stands; those that are not named have not begun.
      labels: how many labels the pods have.
      tasks: the answer, in an order that means nothing.
      pods: name of each executor's pod to its component.
    """

    spec: Mapping[str, Any]
    workflow: str
    looks: Mapping[str, Look]
    labels: int = 0
    tasks: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        states = [look.state for look in self.looks.values()]
        going = "PENDING" in states or "RUNNING" in states or "Report" not in self.looks
        failed = {"FAILED", DRIVER_FAILED} & set(states)
        state = "RUNNING" if going else "FAILED" if failed else "SUCCEEDED"
        inside = self._attempt(self.workflow, self.workflow, state, ["root-driver"])
        self._driver(f"{inside}.root", "root")
        self._graph(f"{inside}.root", "root", self.spec["root"]["dag"]["tasks"], state)
        random.shuffle(self.tasks)

    @staticmethod
    def id(workflow: str, name: str) -> str:
        """Id of the node with that full name."""
        return f"{workflow}-{_hash(name)}"

    def _graph(self, name: str, part: str, tasks: _Tasks, state: str, *more: str) -> None:
        """A sub-graph that goes on or is over, and what is in it."""
        hooks = {
            task["dependentTasks"][0]: key
            for key, task in tasks.items()
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        }
        begun = {key for key, task in tasks.items() if self._looks(task)}
        first = [key for key, task in tasks.items() if not task.get("dependentTasks")]
        inside = self._attempt(name, part, state, [f"{key}-driver" for key in first], *more)
        for key, task in tasks.items():
            if key not in begun or key in hooks.values():
                continue
            after = [
                f"{inside}.{other}-driver"
                for other in sorted(begun - set(hooks.values()))
                if key in tasks[other].get("dependentTasks", [])
            ]
            hook = [f"{inside}.{key}.onExit"] if hooks.get(key) in begun else []
            self._task(f"{inside}.{key}", key, task, after, hook)
        for key, hook_key in hooks.items():
            if hook_key in begun:
                hook_name, task = f"{inside}.{key}.onExit", tasks[hook_key]
                (look,) = self._looks(task)
                within = self._attempt(
                    hook_name, f"{key}.onExit", look.state, [f"{hook_key}-driver"]
                )
                self._task(f"{within}.{hook_key}", hook_key, task, [], [])

    def _looks(self, task: Mapping[str, Any]) -> list[Look]:
        component = self.spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            inner = component["dag"]["tasks"].values()
            return [look for each in inner for look in self._looks(each)]
        look = self.looks.get(task["taskInfo"]["name"])
        return [look] if look else []

    def _task(
        self, name: str, part: str, task: Mapping[str, Any], after: list[str], hook: list[str]
    ) -> None:
        states = {look.state for look in self._looks(task)}
        if states == {OMITTED}:
            self._add(f"{part}-driver", None, [None], [name])
            self._add(part, None, [None], after)
            return
        component = self.spec["components"][task["componentRef"]["name"]]
        failed = "dag" not in component and states == {DRIVER_FAILED}
        self._driver(name, part, failed)
        if failed:
            self._add(part, None, [None], after)
            return
        if states == {"SKIPPED"}:
            self._add(part, "SKIPPED", ["SKIPPED"], after)
            return
        if "dag" in component:
            going = states & {"PENDING", "RUNNING"}
            state = "RUNNING" if going else "FAILED" if "FAILED" in states else "SUCCEEDED"
            self._graph(name, part, component["dag"]["tasks"], state, *hook)
            return
        (look,) = self._looks(task)
        running = "RUNNING" if look.state == "PENDING" else look.state
        inside = self._attempt(name, part, running, ["executor", *after], seconds=look.seconds)
        executor = f"{inside}.executor"
        attempts = [f"{executor}({number})" for number in range(look.attempts)]
        self._add("executor", running, _history("RUNNING", running), attempts, look.seconds)
        template = f"{'retry-' if 'retryPolicy' in task else ''}system-container-impl"
        template = f"metadata-0-{self.labels}-{template}" if self.labels else template
        for number, attempt in enumerate(attempts):
            state = look.state if number == look.attempts - 1 else "FAILED"
            history = _history("PENDING", "RUNNING", state)
            self._add(f"executor({number})", state, history, [], look.seconds)
            self.pods[f"{self.workflow}-{template}-{_hash(attempt)}"] = task["taskInfo"]["name"]

    def _driver(self, name: str, part: str, failed: bool = False) -> None:
        attempt, state = f"{name}-driver(0)", "FAILED" if failed else "SUCCEEDED"
        self._add(f"{part}-driver", state, _history("RUNNING", state), [attempt])
        self._add(f"{part}-driver(0)", state, _history("PENDING", state), [name])

    def _attempt(
        self, name: str, part: str, state: str, inside: list[str], *more: str, seconds: float = 90.0
    ) -> str:
        """A node that may be retried, and its first attempt, whose name is returned."""
        attempt = f"{name}(0)"
        # Of those inside only the last part is given, of those after it all of the name.
        children = [each if "." in each else f"{attempt}.{each}" for each in inside]
        self._add(part, state, _history("RUNNING", state), [attempt, *more], seconds)
        self._add(f"{part}(0)", state, _history("RUNNING", state), children, seconds)
        return attempt

    def _add(
        self,
        part: str,
        state: str | None,
        history: list[str | None],
        children: list[str],
        seconds: float = 90.0,
    ) -> None:
        going = state in ("PENDING", "RUNNING")
        end = _BEGIN + datetime.timedelta(seconds=seconds)
        task: dict[str, Any] = {
            "run_id": "",
            "task_id": str(uuid.uuid4()),
            "display_name": part,
            "create_time": _stamp(_BEGIN),
            "start_time": _stamp(_BEGIN),
            "end_time": _NEVER if going else _stamp(end),
            **({"state": state} if state else {}),
            "state_history": [
                {"update_time": _stamp(_BEGIN), **({"state": each} if each else {})}
                for each in history
            ],
        }
        if children:
            task["child_tasks"] = [{"pod_name": self.id(self.workflow, c)} for c in children]
        self.tasks.append(task)


def _history(*states: str) -> list[str | None]:
    return [state for number, state in enumerate(states) if state not in states[:number]]


def _stamp(time: datetime.datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _hash(name: str) -> int:
    """Argo's: FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
