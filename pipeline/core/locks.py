"""Locks between processes, on this machine or on others that share a disk."""

from __future__ import annotations

import errno

import filelock

_NONE_THERE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def of(path: str) -> filelock.FileLock:
    """The lock that a file stands for; the same object wherever this process asks for it.

    The kernel keeps it, and frees it when its holder dies; a mere file would outlive that. Whoever
    may write the folder may take it, whoever made the file.
    """
    return filelock.FileLock(path, mode=0o666, is_singleton=True, fallback_to_soft=False)


def are_missing(error: BaseException) -> bool:
    """Whether a lock could not be had because the disk has none, as some network disks."""
    return isinstance(error, NotImplementedError) or (
        isinstance(error, OSError) and error.errno in _NONE_THERE
    )
