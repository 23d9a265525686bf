"""Errors for people; each message is one sentence: what, where, what to do."""


class UserError(Exception):
    """Bad arguments, settings or data. Shown without a traceback; the exit code is 2."""


class DataError(UserError):
    """The data set cannot be used as it is: missing folders, too many faulty items, anomalies."""


class CopyError(Exception):
    """The version in service was not copied to another filesystem; a later attempt may do it."""


def first_line(error: BaseException) -> str:
    """Type and first line of an error, without a full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
