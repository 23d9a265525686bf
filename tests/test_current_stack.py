"""The suite once more, on the current stack, in a Debian 13 root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import ROOT, only_with_all

IMPOSSIBLE = 77  # exit code of .ci/debian13.sh where no such root can be had
MOST_SECONDS = 4500


@pytest.mark.slow
def test_suite_on_the_current_stack_in_debian_13(tmp_path: Path) -> None:
    """All that depends on the stack: tests marked `once` have run on this one."""
    if sys.version_info >= (3, 11):
        pytest.skip("this run is on the current stack already")
    only_with_all("CURRENT STACK")
    log = tmp_path / "log"
    with log.open("w") as file:
        suite = subprocess.Popen(
            [ROOT / ".ci" / "debian13.sh", "make", "test"],
            env={**os.environ, "SECOND_STACK": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = suite.wait(timeout=MOST_SECONDS)
    finally:
        # The whole group, else a run that hangs would go on.
        if suite.poll() is None:
            os.killpg(suite.pid, signal.SIGKILL)
    output = log.read_text(errors="replace")
    print(output)
    if code == IMPOSSIBLE:
        pytest.skip(f"CURRENT STACK NOT TESTED: no Debian 13 root can be had here: {output}")
    assert code == 0, "the suite failed on the current stack, see its output"
