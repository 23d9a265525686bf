"""The suite on the current stack, in a Debian 13 root, beside the one on the host's stack.

Most tests keep one core busy, so that the two side by side take little longer than one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TEST = "test_whole_suite_on_the_current_stack_in_debian_13"
IMPOSSIBLE = 77  # exit code of .ci/debian13.sh where no such root can be had
_SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "debian13.sh"
_MOST_SECONDS = 3600


class Suite:
    """``make test`` in the root, with its output in a file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [_SCRIPT, "make", "test"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait(timeout=_MOST_SECONDS)

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def end(self) -> None:
        # The whole group, else a run that hangs would go on.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._folder.cleanup()


SUITE = pytest.StashKey[Suite]()


def in_use() -> bool:
    """Whether this process runs on the current stack."""
    return sys.version_info >= (3, 11)


def wanted(items: list[pytest.Item]) -> bool:
    """Whether the test that needs it will run, and can."""
    chosen = any(item.name == TEST for item in items)
    return chosen and not in_use() and os.environ.get("TEST_DEBIAN13") == "1"
