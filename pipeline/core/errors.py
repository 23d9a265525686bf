"""Errors shown to users: a sentence that says what was found, where, and what to do."""

import contextlib
import errno
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

# Exit codes of every command.
DONE, FAILED, USER_ERROR = 0, 1, 2
INTERRUPTED, STOPPED = 130, 128 + signal.SIGTERM


class UserError(Exception):
    """Bad arguments, settings or data. Shown without a traceback; the exit code is 2."""


class DataError(UserError):
    """The data set is unusable as it is: missing folders, too many quarantined items, anomalies."""


class CommandError(Exception):
    """A command failed although its arguments, settings and data are valid."""


class CopyError(Exception):
    """Copying the version in service to another filesystem failed; a later attempt may succeed."""


class ServerError(Exception):
    """No model server could be started or reached, so nothing is known about the model."""


def first_line(error: BaseException) -> str:
    """Return the type and the first line of an error, without a full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


class Stopped(BaseException):
    """The process received SIGTERM.

    Not an Exception, because TFX handles those by deleting the node's output and recording the
    node as failed. The next attempt resumes a node that was stopped.
    """


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Make SIGTERM raise `Stopped`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals only arrive in the main thread
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> NoReturn:
    raise Stopped


def explain(error: BaseException, what: str, again: str = "") -> tuple[str, int]:
    """Turn the error that ended a command into a sentence and an exit code.

    Args:
      error: the error.
      what: the subject of the sentence, such as "The run".
      again: a clause that says what to do after an interruption.
    """
    if isinstance(error, UserError):
        return str(error), USER_ERROR
    if isinstance(error, CommandError):
        return str(error), FAILED
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted{again}.", INTERRUPTED
    if isinstance(error, Stopped):
        return f"Stopped{again}.", STOPPED
    if isinstance(error, MemoryError):
        return f"{what} failed: out of memory.", FAILED
    if disk := _full_disk(error):
        return f"No space left on {disk}; free some space and try again.", FAILED
    return f"{what} failed: {first_line(error)}.", FAILED


def _full_disk(error: BaseException) -> str | None:
    """Describe the disk that is full, if that caused the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            path = cause.filename2 or cause.filename
            return f"the disk that holds {path}" if path else "the disk"
        if any(text in str(cause) for text in ("No space left on device", "disk is full")):
            return "the disk"
        cause = cause.__cause__ or cause.__context__
    return None
