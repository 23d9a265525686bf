"""Waits for the end of a run and tells how it goes on."""

from __future__ import annotations

import datetime
import enum
import re
import time
from collections.abc import Callable, Sequence

from kubeflow import answers, argo, client, errors
from kubeflow.package import Step
from pipeline.core.errors import UserError

# The server may restart in the hours that a run takes.
_PATIENCE_S = 600.0
_MARKS = {argo.RUNNING: ">", argo.SUCCEEDED: "+", argo.FAILED: "x", argo.SKIPPED: "="}
# Lines that Argo and Kubeflow Pipelines add to a container's log.
_THEIRS = re.compile(r"time=\S+ level=|[IWEF]\d{4} \d\d:\d\d:\d\d|(Error: )?exit status \d")
_END_OF_TIME = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)


class Verdict(enum.IntEnum):
    """How the wait ended; the value is the exit code."""

    SUCCEEDED = 0
    FAILED = 1
    UNKNOWN = 3


# The SDK's own wait does not know CANCELED and would wait for ever.
_ENDS = {
    "SUCCEEDED": Verdict.SUCCEEDED,
    "FAILED": Verdict.FAILED,
    "SKIPPED": Verdict.UNKNOWN,
    answers.STOPPED: Verdict.UNKNOWN,
}


def wait(
    server: client.Server,
    run_id: str,
    steps: Sequence[Step],
    say: Callable[[str], None],
    timeout: float | None = None,
    pause: float = 10.0,
) -> Verdict:
    """Waits until the run has ended, and says what changes.

    Args:
      server: where the run is.
      run_id: the run.
      steps: of its pipeline; what else the server lists is its own.
      say: takes one line.
      timeout: longest wait, seconds; None waits for ever.
      pause: between two questions, seconds.

    Returns:
      SUCCEEDED, FAILED if a component failed, and UNKNOWN if the run was stopped or skipped, did
      not end in time, or the server was away for ten minutes or refuses to tell.
    """
    begin = last_answer = time.monotonic()
    teller = _Teller(server, run_id, steps, say)
    silent = False
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
            if not silent:
                say(f"{error} Waiting on.")
                silent = True
        else:
            last_answer = time.monotonic()
            silent = False
            state = teller.tell(run)
            if state in _ENDS:
                say(f"Run {state.lower()} after {time.monotonic() - begin:.0f} s{teller.why(run)}")
                return _ENDS[state]
        if _late(begin, timeout):
            say(f"The run did not end within {timeout:g} s and goes on: python -m kubeflow status.")
            return Verdict.UNKNOWN
        time.sleep(pause)


def _late(begin: float, timeout: float | None) -> bool:
    return timeout is not None and time.monotonic() - begin >= timeout


class _Teller:
    """Says what is new about a run at each look at it."""

    def __init__(
        self, server: client.Server, run_id: str, steps: Sequence[Step], say: Callable[[str], None]
    ) -> None:
        self._server, self._run_id, self._steps, self._say = server, run_id, steps, say
        self._width = max([18, *(len(step.name) for step in steps)])
        self._told: dict[str, tuple[str, int]] = {}
        self._failed: list[str] = []
        self._stopping = False

    def tell(self, run: answers.Run) -> str:
        """Says what is new; returns the state of the run."""
        # The server forgets that a run was stopped if Argo is quicker than its own books.
        self._stopping |= run.state in ("CANCELING", answers.STOPPED)
        found = argo.components(run, self._steps)
        # What failed first is said first.
        for component in sorted(found, key=lambda each: each.end or _END_OF_TIME):
            news = (component.state, component.attempts)
            if self._told.get(component.name) != news:
                self._told[component.name] = news
                self._tell(component)
        return answers.STOPPED if self._stopping and run.state == "FAILED" else run.state

    def why(self, run: answers.Run) -> str:
        """Why the run ended as it did, as the end of a sentence."""
        if run.error:
            return f": {run.error}"
        if self._failed and not self._stopping:
            return f": {' and '.join(self._failed)} failed"
        if run.state == "FAILED" and not self._stopping:
            return f": no component failed; see {self._server.pods_command(self._run_id)}"
        return ""

    def _tell(self, component: argo.Component) -> None:
        mark, word = _MARKS[component.state], component.state.lower()
        if component.state == argo.FAILED and self._stopping:
            mark, word = "-", "stopped"
        parts = [f"{mark} {component.name:<{self._width}} {word:<9}"]
        if component.seconds is not None:
            parts.append(f" {component.seconds:6.0f} s")
        if component.attempts > 1:
            parts.append(f" (attempt {component.attempts})")
        line = "".join(parts).rstrip()
        if word != "failed" or component.pod is None:
            self._say(line)
            return
        self._failed.append(component.name)
        log = self._server.log(self._run_id, component.pod)
        reason = _last_line(log or "", component.name)
        self._say(f"{line}: {reason}" if reason else line)
        self._say(f"  its log: {self._server.log_command(self._run_id, component.pod)}")


def _last_line(log: str, name: str) -> str | None:
    """What a component said last: its verdict, or else how its log ends before it was cut off."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not _THEIRS.match(line)]
    verdict = re.compile(rf"(Error: )?({re.escape(name)}( failed| refused)?: |No space is left)")
    verdicts = [line for line in lines if verdict.match(line)]
    if verdicts or not lines:
        return next(reversed(verdicts), None)
    return f"it was cut off; its log ends with {lines[-1]!r}"
