"""A container's termination message, which Kubernetes keeps after the container has ended.

`kubectl describe pod` shows it. Argo decides by it whether to retry the task, using the expression
in ``manifests/components/retries``; it cannot use the exit code, because Kubeflow's launcher turns
all of them into 1. Outside of pods the file does not exist, and nothing is written.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

AGAIN = "another attempt may help"  # the expression searches for this
_FILE = Path("/dev/termination-log")
_LIMIT = 4096  # maximum number of bytes that Kubernetes reads


def note(sentence: str, again: bool) -> None:
    """Replace the message.

    Args:
      sentence: the last line of the task's log; at its start, the message in case it is killed.
      again: whether another attempt may help.
    """
    text = f"{sentence.rstrip('.')}; {AGAIN}." if again else sentence.replace(AGAIN, "")
    with contextlib.suppress(OSError), _FILE.open("r+b") as file:  # r+ never creates the file
        os.truncate(file.fileno(), 0)
        file.write(_shortened(text))


def _shortened(text: str) -> bytes:
    content = text.encode(errors="backslashreplace")
    half = _LIMIT // 2 - 8
    return content if len(content) <= _LIMIT else content[:half] + b" ... " + content[-half:]
