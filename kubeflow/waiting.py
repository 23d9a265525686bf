"""Waits for the end of a run and tells how it goes on."""

from __future__ import annotations

import datetime
import enum
import time
from collections.abc import Callable, Collection
from typing import Any

from kubeflow import client, errors
from pipeline.errors import UserError

# The server may restart in the hours that a run takes.
_PATIENCE_S = 600.0
_MARKS = {"SUCCEEDED": "+", "FAILED": "x", "CANCELED": "x", "SKIPPED": "=", "RUNNING": ">"}


class Verdict(enum.IntEnum):
    """How the wait ended; the value is the exit code."""

    SUCCEEDED = 0
    FAILED = 1
    UNKNOWN = 3


# The SDK's own wait does not know CANCELED and would wait for ever.
_ENDS = {
    "SUCCEEDED": Verdict.SUCCEEDED,
    "FAILED": Verdict.FAILED,
    "CANCELED": Verdict.UNKNOWN,
    "SKIPPED": Verdict.UNKNOWN,
}


def wait(
    server: client.Server,
    run_id: str,
    tasks: Collection[str],
    say: Callable[[str], None],
    timeout: float | None = None,
    pause: float = 10.0,
) -> Verdict:
    """Waits until the run has ended, and says what changes.

    Args:
      server: where the run is.
      run_id: the run.
      tasks: names of the tasks to speak of; the server lists its own helpers beside them.
      say: takes one line.
      timeout: longest wait, seconds; None waits for ever.
      pause: between two questions, seconds.

    Returns:
      SUCCEEDED, FAILED if a component failed, and UNKNOWN if the run was cancelled or skipped, did
      not end in time, or the server was away for ten minutes or refuses to tell.
    """
    begin = last_answer = time.monotonic()
    told: dict[str, str] = {}
    while True:
        try:
            run = server.get_run(run_id)
        except UserError as error:
            # A restart of the server is no end of the run; refused rights do not come back.
            away = time.monotonic() - last_answer
            lasting = not isinstance(error, errors.ServerError) or away > _PATIENCE_S
            if lasting or _late(begin, timeout):
                say(f"{error} The run may go on: python -m kubeflow status.")
                return Verdict.UNKNOWN
            if told.setdefault("", "answers") == "answers":
                say(f"{error} Waiting on.")
                told[""] = "silent"
        else:
            last_answer = time.monotonic()
            told[""] = "answers"
            _tell(run, tasks, told, say)
            if run.state in _ENDS:
                seconds = time.monotonic() - begin
                why = f": {run.error.message}" if run.error and run.error.message else ""
                say(f"Run {str(run.state).lower()} after {seconds:.0f} s{why}")
                return _ENDS[run.state]
        if _late(begin, timeout):
            say(f"The run did not end within {timeout:g} s and goes on: python -m kubeflow status.")
            return Verdict.UNKNOWN
        time.sleep(pause)


def _late(begin: float, timeout: float | None) -> bool:
    return timeout is not None and time.monotonic() - begin >= timeout


def _tell(
    run: Any, tasks: Collection[str], told: dict[str, str], say: Callable[[str], None]
) -> None:
    details = (run.run_details.task_details if run.run_details else None) or []
    for task in details:
        name, state = task.display_name, task.state
        if name not in tasks or state not in _MARKS or told.get(name) == state:
            continue
        told[name] = state
        why = f": {task.error.message}" if task.error and task.error.message else ""
        say(f"{_MARKS[state]} {name:<18} {state.lower():<9}{_duration(task)}{why}".rstrip())


def _duration(task: Any) -> str:
    if not (task.start_time and task.end_time):
        return ""
    # A task without an end carries the zero time, which is before its start.
    lasted: datetime.timedelta = task.end_time - task.start_time
    return f" {lasted.total_seconds():6.0f} s" if lasted.total_seconds() >= 0 else ""
