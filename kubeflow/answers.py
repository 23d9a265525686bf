"""What the server says of versions, schedules and runs, taken out of the SDK's objects at once.

A proxy or another program may answer in JSON of any shape. Whatever does not fit raises here, where
`kubeflow.client` makes a sentence of it, and not later.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

from kubeflow import package

_DIGEST = re.compile(r"sha256:([0-9a-f]{32,64})")
# A run that was stopped ends as FAILED: Kubeflow Pipelines tells it apart by its history alone.
STOPPED = "STOPPED"


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of a pipeline; ``digest`` begins that of its package, None if others made it."""

    pipeline_id: str
    version_id: str
    name: str
    digest: str | None
    spec: package.Spec | None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run of ours.

    Attributes:
      version_id: None where the server takes the newest version at each trigger.
      parameters: what differs from the pipeline's defaults.
    """

    schedule_id: str
    name: str
    cron: str
    enabled: bool
    version_id: str | None
    experiment_id: str
    parameters: dict[str, Any]
    service_account: str | None
    description: str | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """What the server calls a task of a run: a node of Argo's; `kubeflow.argo` knows which.

    Attributes:
      name: last part of the node's name, such as ``trainer``, ``trainer(0)`` or ``executor``.
      state: None if it never ran.
      begin: None until then, as is ``end``.
      end: None while it goes on.
      children: ids of the nodes that come after it.
    """

    name: str
    state: str | None
    begin: datetime.datetime | None
    end: datetime.datetime | None
    children: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run; what it has not come to is None or empty. ``state`` is the server's, or `STOPPED`."""

    name: str
    state: str
    begin: datetime.datetime | None
    seconds: float | None
    schedule_id: str | None
    error: str | None
    tasks: tuple[Task, ...]


def version(found: Any) -> Version:
    """A pipeline version, from the SDK's object."""
    digest = _DIGEST.search(found.description or "")
    return Version(
        found.pipeline_id,
        found.pipeline_version_id,
        found.display_name,
        digest[1] if digest else None,
        package.read_spec(found.pipeline_spec),
    )


def schedule(found: Any) -> Schedule:
    """A recurring run, from the SDK's object."""
    cron = found.trigger.cron_schedule if found.trigger else None
    runtime = found.runtime_config
    return Schedule(
        found.recurring_run_id,
        found.display_name,
        (cron.cron if cron else None) or "",
        found.status == "ENABLED",
        found.pipeline_version_reference.pipeline_version_id or None,
        found.experiment_id,
        dict(runtime.parameters or {}) if runtime else {},
        found.service_account or None,
        found.description or None,
    )


def run(found: Any) -> Run:
    """A run, from the SDK's object."""
    details = found.run_details.task_details if found.run_details else None
    begin = _time(found.created_at)
    return Run(
        str(found.display_name),
        _state(found),
        begin,
        seconds(begin, _time(found.finished_at)),
        found.recurring_run_id,
        str(found.error.message) if found.error and found.error.message else None,
        tuple(_task(each) for each in details or []),
    )


def seconds(begin: datetime.datetime | None, end: datetime.datetime | None) -> float | None:
    """How long something took, None while it goes on."""
    return None if begin is None or end is None else (end - begin).total_seconds()


def _task(found: Any) -> Task:
    return Task(
        str(found.display_name),
        found.state,
        _time(found.start_time),
        _time(found.end_time),
        tuple(str(each.pod_name) for each in found.child_tasks or []),
    )


def _state(found: Any) -> str:
    history = {each.state for each in found.state_history or []}
    if found.state == "CANCELED" or (found.state == "FAILED" and "CANCELING" in history):
        return STOPPED
    return str(found.state or "unknown")


def _time(found: datetime.datetime | None) -> datetime.datetime | None:
    """A time in UTC; None for what has not come, which the server gives as year 1 or 1970."""
    if found is None or found.year <= 1970:
        return None
    return found.astimezone(datetime.timezone.utc)
