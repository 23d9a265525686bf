"""Typed views of the server's versions, schedules and runs, converted from the SDK's objects.

A proxy or another program may respond with JSON of any shape. Converting at once makes anything
that does not fit raise here, where `kubeflow.client` turns it into a sentence, and not later.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

from kubeflow import package

_DIGEST = re.compile(r"sha256:([0-9a-f]{32,64})")
# Kubeflow Pipelines reports stopped runs as FAILED; only their history tells them apart.
STOPPED = "STOPPED"


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a pipeline.

    Attributes:
      digest: first half of the SHA-256 of its package, in hex; None if another tool uploaded it.
      spec: its specification; None if it cannot be read.
    """

    pipeline_id: str
    version_id: str
    name: str
    digest: str | None
    spec: package.Spec | None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A recurring run.

    Attributes:
      version_id: None if the server uses the newest version at each trigger.
      parameters: values that differ from the pipeline's defaults.
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
    """What the server calls a task of a run: a node of Argo's graph (see `kubeflow.argo`).

    Attributes:
      name: last part of the node's name, such as ``trainer``, ``trainer(0)`` or ``executor``.
      state: None if it never ran.
      begin: None if it has not started.
      end: None if it has not ended.
      children: ids of its child nodes.
    """

    name: str
    state: str | None
    begin: datetime.datetime | None
    end: datetime.datetime | None
    children: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
      state: the server's state, or `STOPPED`.
      begin: when it was created.
      seconds: its duration; None while it is running.
      schedule_id: the schedule that started it, if any.
      error: the server's message, if any.
      tasks: nodes of the graph that exist so far.
    """

    name: str
    state: str
    begin: datetime.datetime | None
    seconds: float | None
    schedule_id: str | None
    error: str | None
    tasks: tuple[Task, ...]


def version(response: Any) -> Version:
    """Convert the SDK's pipeline version."""
    digest = _DIGEST.search(response.description or "")
    return Version(
        response.pipeline_id,
        response.pipeline_version_id,
        response.display_name,
        digest[1] if digest else None,
        package.read_spec(response.pipeline_spec),
    )


def schedule(response: Any) -> Schedule:
    """Convert the SDK's recurring run."""
    cron = response.trigger.cron_schedule if response.trigger else None
    runtime = response.runtime_config
    return Schedule(
        response.recurring_run_id,
        response.display_name,
        (cron.cron if cron else None) or "",
        response.status == "ENABLED",
        response.pipeline_version_reference.pipeline_version_id or None,
        response.experiment_id,
        dict(runtime.parameters or {}) if runtime else {},
        response.service_account or None,
        response.description or None,
    )


def run(response: Any) -> Run:
    """Convert the SDK's run."""
    details = response.run_details.task_details if response.run_details else None
    begin = _time(response.created_at)
    return Run(
        str(response.display_name),
        _state(response),
        begin,
        seconds(begin, _time(response.finished_at)),
        response.recurring_run_id,
        str(response.error.message) if response.error and response.error.message else None,
        tuple(_task(each) for each in details or []),
    )


def seconds(begin: datetime.datetime | None, end: datetime.datetime | None) -> float | None:
    """Return the seconds between two times; None if one is missing."""
    return None if begin is None or end is None else (end - begin).total_seconds()


def _task(response: Any) -> Task:
    return Task(
        str(response.display_name),
        response.state,
        _time(response.start_time),
        _time(response.end_time),
        tuple(str(each.pod_name) for each in response.child_tasks or []),
    )


def _state(response: Any) -> str:
    history = {each.state for each in response.state_history or []}
    if response.state == "CANCELED" or (response.state == "FAILED" and "CANCELING" in history):
        return STOPPED
    return str(response.state or "unknown")


def _time(time: datetime.datetime | None) -> datetime.datetime | None:
    """Convert a time to UTC; None for the server's placeholders, year 1 and 1970."""
    if time is None or time.year <= 1970:
        return None
    return time.astimezone(datetime.timezone.utc)
