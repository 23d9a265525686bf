"""Releases a model whose smoke test lasts until another process lets it end."""

from __future__ import annotations

import argparse
import errno
import time
from collections.abc import Sequence
from pathlib import Path

import filelock
import pytest

from pipeline.release import operations
from tests.support.releases import accept_any_model


def refuse_locks(*_: object, **__: object) -> None:
    """In place of `filelock.FileLock.acquire`, as on a disk without locks."""
    raise OSError(errno.ENOLCK, "No locks available")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--ready", type=Path, help="file to make when the smoke test begins")
    parser.add_argument("--go-on", type=Path, help="file that ends it")
    parser.add_argument("--no-locks", action="store_true", help="the disk has none")
    args = parser.parse_args(arguments)

    def wait(_: str) -> None:
        args.ready.touch()
        while not args.go_on.exists():
            time.sleep(0.01)

    patch = pytest.MonkeyPatch()
    if args.no_locks:
        patch.setattr(filelock.FileLock, "acquire", refuse_locks)
    accept_any_model(patch, wait)
    print(operations.release(args.model, args.folder))
