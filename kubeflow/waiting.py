"""Wait for the end of a run and print its progress."""

from __future__ import annotations

import datetime
import enum
import re
import time
from collections.abc import Callable, Sequence

from kubeflow import answers, argo, errors
from kubeflow.client import Server
from kubeflow.package import Step
from pipeline.core.errors import UserError

# The server may restart during a run of hours.
_PATIENCE_S = 600.0
_MARKS = {argo.RUNNING: ">", argo.SUCCEEDED: "+", argo.FAILED: "x", argo.SKIPPED: "="}
# Lines that Argo and Kubeflow Pipelines add to a container's log.
_FOREIGN_LINE = re.compile(r"time=\S+ level=|[IWEF]\d{4} \d\d:\d\d:\d\d|(Error: )?exit status \d")
_END_OF_TIME = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)


class Verdict(enum.IntEnum):
    """How the wait ended; the value is the exit code."""

    SUCCEEDED = 0
    FAILED = 1
    UNKNOWN = 3


# The SDK's own wait does not know CANCELED and would wait forever.
_VERDICTS = {
    "SUCCEEDED": Verdict.SUCCEEDED,
    "FAILED": Verdict.FAILED,
    "SKIPPED": Verdict.UNKNOWN,
    answers.STOPPED: Verdict.UNKNOWN,
}


def wait(
    server: Server,
    run_id: str,
    steps: Sequence[Step],
    say: Callable[[str], None],
    timeout: float | None = None,
    pause: float = 10.0,
) -> Verdict:
    """Wait until the run has ended, and print changes of its state.

    Args:
      server: the server of the run.
      run_id: id of the run.
      steps: all steps of its pipeline.
      say: prints one line.
      timeout: maximum time to wait, in seconds; None: no limit.
      pause: pause between requests, in seconds.

    Returns:
      SUCCEEDED, FAILED if a component failed, and UNKNOWN if the run was stopped or skipped, did
      not end in time, or the server was unavailable for ten minutes or rejected a request.
    """
    begin = last_answer = time.monotonic()
    progress = _Progress(server, run_id, steps, say)
    is_away = False
    while True:
        try:
            run = server.get_run(run_id)
        except UserError as error:
            # The server may come back from a restart; a rejected request stays rejected.
            away = time.monotonic() - last_answer
            is_permanent = not isinstance(error, errors.ServerError) or away > _PATIENCE_S
            if is_permanent or _late(begin, timeout):
                say(f"{error} The run may still be running; see python -m kubeflow status.")
                return Verdict.UNKNOWN
            if not is_away:
                say(f"{error} Still waiting.")
                is_away = True
        else:
            last_answer = time.monotonic()
            is_away = False
            state = progress.update(run)
            if state in _VERDICTS:
                seconds = time.monotonic() - begin
                say(f"Run {state.lower()} after {seconds:.0f} s{progress.reason(run)}")
                return _VERDICTS[state]
        if _late(begin, timeout):
            say(
                f"The run did not end within {timeout:g} s and is still running; see python -m "
                "kubeflow status."
            )
            return Verdict.UNKNOWN
        time.sleep(pause)


def _late(begin: float, timeout: float | None) -> bool:
    return timeout is not None and time.monotonic() - begin >= timeout


class _Progress:
    """Prints what has changed in a run since the last update."""

    def __init__(
        self, server: Server, run_id: str, steps: Sequence[Step], say: Callable[[str], None]
    ) -> None:
        self._server, self._run_id, self._steps, self._say = server, run_id, steps, say
        self._width = max([18, *(len(step.name) for step in steps)])
        self._printed: dict[str, tuple[str, int]] = {}
        self._failed: list[str] = []
        self._stopping = False

    def update(self, run: answers.Run) -> str:
        """Print what has changed, and return the state of the run."""
        # Remember CANCELING: if Argo is fast, the server later reports just FAILED.
        self._stopping |= run.state in ("CANCELING", answers.STOPPED)
        components = argo.components(run, self._steps)
        # In order of their ends, so that the first failure comes first.
        for component in sorted(components, key=lambda each: each.end or _END_OF_TIME):
            state = (component.state, component.attempts)
            if self._printed.get(component.name) != state:
                self._printed[component.name] = state
                self._print(component)
        return answers.STOPPED if self._stopping and run.state == "FAILED" else run.state

    def reason(self, run: answers.Run) -> str:
        """Return why the run ended as it did, to append to a sentence."""
        if run.error:
            return f": {run.error}"
        if self._failed and not self._stopping:
            return f": {' and '.join(self._failed)} failed"
        if run.state == "FAILED" and not self._stopping:
            return f": no component failed; see {self._server.pods_command(self._run_id)}"
        return ""

    def _print(self, component: argo.Component) -> None:
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
    """Return a component's verdict; if it was interrupted, the end of its log."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not _FOREIGN_LINE.match(line)]
    verdict = re.compile(rf"(Error: )?({re.escape(name)}( failed)?: |No space (is )?left)")
    verdicts = [line for line in lines if verdict.match(line)]
    if verdicts or not lines:
        return next(reversed(verdicts), None)
    return f"interrupted; its log ends with {lines[-1]!r}"
