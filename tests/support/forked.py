"""Processes of their own that begin with TensorFlow and TFX loaded, which takes others seconds.

Each is a fork of a server that has loaded them once and done nothing with them.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.runs import ROOT

_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = ["tests.support.models.tiny_training", "local_runner", "kubeflow.tasks"]
_CONTEXT.set_forkserver_preload(_PRELOADED)


def _ensure_running() -> None:
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if former is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = former


class Forked:
    """Has what the tests need of `subprocess.Popen`."""

    def __init__(
        self,
        main: Callable[[Sequence[str]], int | None],
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts ``main(arguments)`` in the checkout.

        Args:
          main: a function of a module; what it returns is the exit code.
          arguments: of the command line.
          log: receives what the process prints.
          environment: what its environment has besides this one's.
        """
        _ensure_running()
        self._log = log
        whole = {**os.environ, **(environment or {})}
        self._process = _CONTEXT.Process(
            target=_run, args=(main, list(arguments), log, whole), daemon=True
        )
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, None while it runs; negative: the signal that ended it."""
        return self._process.exitcode

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text() if self._log.exists() else ""

    def wait(self, seconds: float = 600) -> tuple[int, str]:
        """Exit code and all that it printed."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"still at work after {seconds} s:\n{self.output()}"
        return code, self.output()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Waits until something is the case while it runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.poll() is None, self.output()
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.02)

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._process.kill()
        self._process.join()


def _run(
    main: Callable[[Sequence[str]], int | None],
    arguments: list[str],
    log: Path,
    environment: dict[str, str],
) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main(arguments) or 0)
