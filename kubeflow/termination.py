"""A container's termination message: what Kubernetes keeps of a task when its container has ended.

`kubectl describe pod` shows it, and Argo decides by it whether another attempt is made, with the
expression in ``manifests/components/retries``: the exit code would tell, but Kubeflow's launcher
turns every one into 1. Outside of a pod there is no such file, and nothing is written.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

AGAIN = "another attempt may help"  # what the expression looks for
_FILE = Path("/dev/termination-log")
_LIMIT = 4096  # bytes that Kubernetes reads


def note(sentence: str, again: bool) -> None:
    """Replaces the message.

    Args:
      sentence: the last line of the task's log, or what holds if it is killed now.
      again: whether another attempt may help.
    """
    text = f"{sentence.rstrip('.')}; {AGAIN}." if again else sentence.replace(AGAIN, "")
    with contextlib.suppress(OSError), _FILE.open("r+b") as file:  # r+: it is never made here
        os.truncate(file.fileno(), 0)
        file.write(_shortened(text))


def _shortened(text: str) -> bytes:
    content = text.encode(errors="backslashreplace")
    half = _LIMIT // 2 - 8
    return content if len(content) <= _LIMIT else content[:half] + b" ... " + content[-half:]
