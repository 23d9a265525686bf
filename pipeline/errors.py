"""Errors that are the user's to mend; each message is one sentence: what, where, what to do."""


class UserError(Exception):
    """Bad arguments, settings or data. Shown without a traceback; the exit code is 2."""


class DataError(UserError):
    """The data set cannot be used as it is: missing folders, too many faulty items, anomalies."""
