"""Errors for people; each message is one sentence: what, where, what to do."""

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
    """The data set cannot be used as it is: missing folders, too many faulty items, anomalies."""


class CommandError(Exception):
    """A command could not do what was asked, though nothing was wrong with how it was asked."""


class CopyError(Exception):
    """The version in service was not copied to another filesystem; a later attempt may do it."""


class ServerError(Exception):
    """No model server could be started or reached; nothing is known about the model."""


def first_line(error: BaseException) -> str:
    """Type and first line of an error, without a full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


class Stopped(BaseException):
    """The process was told to stop, by SIGTERM.

    No Exception, so that nothing takes it for a failure of what it was at: TFX would delete a
    node's output and note it as failed. Like this, the next attempt goes on with it.
    """


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Lets SIGTERM raise `Stopped`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where no signal arrives
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> NoReturn:
    raise Stopped


def explain(error: BaseException, what: str, again: str = "") -> tuple[str, int]:
    """What a command says when it ends with an error, in a sentence, and its exit code.

    Args:
      error: that ended it.
      what: failed, such as "The run".
      again: what to do after an interruption, in a clause.
    """
    if isinstance(error, UserError):
        return str(error), USER_ERROR
    if isinstance(error, CommandError):
        return str(error), FAILED
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted{again}.", INTERRUPTED
    if isinstance(error, Stopped):
        return f"Told to stop{again}.", STOPPED
    if isinstance(error, MemoryError):
        return f"{what} failed: there was not enough memory.", FAILED
    if place := _full_disk(error):
        return f"No space is left on the disk of {place}; make room, and start again.", FAILED
    return f"{what} failed: {first_line(error)}.", FAILED


def _full_disk(error: BaseException) -> str | None:
    """Which file found no space, or as much as is known of that; None if that is not the error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return str(seen.filename2 or seen.filename or "what was written")
        for said in ("No space left on device", "database or disk is full"):
            if said in str(seen):
                return "what was written"
        seen = seen.__cause__ or seen.__context__
    return None
