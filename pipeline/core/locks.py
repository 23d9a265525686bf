"""Locks between processes on this machine, or on machines that share a disk."""

from __future__ import annotations

import errno

import filelock

_NONE_THERE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def of(path: str) -> filelock.FileLock:
    """Return the lock on a file; the same object each time in this process.

    A kernel lock, because that is freed when its holder dies. Everybody who may write the folder
    may take it, no matter who created the file.
    """
    return filelock.FileLock(path, mode=0o666, is_singleton=True, fallback_to_soft=False)


def are_missing(error: BaseException) -> bool:
    """Return whether locking failed because the disk has no locks, like some network disks."""
    return isinstance(error, NotImplementedError) or (
        isinstance(error, OSError) and error.errno in _NONE_THERE
    )
