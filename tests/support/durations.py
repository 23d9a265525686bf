"""How much CPU time each test file takes: measured, kept in tests/durations.json, and used.

    .venv/bin/python -m pytest --measure [FILE ...]

runs tests and writes what they and their child processes took into that file, beside
what it holds of other test files. It is CPU time and not time on the clock, so that a machine
with other work measures the same. The suite begins with the files that take longest, and says
beforehand how long it will take.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "durations.json"
STACK = "compatible" if sys.version_info < (3, 11) else "current"
WORKERS = 2  # of `make test`
START_S = 25  # until a worker has loaded TensorFlow and TFX and collected the tests


@dataclass
class Seconds:
    """Processor seconds of a test file: of its quick tests, and of those marked slow."""

    quick: float = 0.0
    slow: float = 0.0


def measured() -> dict[str, Seconds]:
    """What each test file took, by its name: on this stack, or else on the other."""
    if not FILE.exists():
        return {}
    stacks = json.loads(FILE.read_text())
    files: dict[str, dict[str, float]] = stacks.get(STACK) or next(iter(stacks.values()), {})
    return {name: Seconds(**seconds) for name, seconds in files.items()}


def minutes(slow: bool) -> float:
    """How long the suite takes on two quiet cores, with or without the slow tests."""
    files = measured().values()
    total = sum(each.quick + (each.slow if slow else 0) for each in files)
    return (total / WORKERS + START_S) / 60


def unmeasured() -> int:
    """How many test files have not been measured on this stack."""
    return len({path.name for path in FILE.parent.glob("test_*.py")} - measured().keys())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measure", action="store_true", help=f"write {FILE.name}")


class Recorder:
    """Adds up the CPU time of setup, call and teardown of each test."""

    def __init__(self) -> None:
        self.files: dict[str, Seconds] = defaultdict(Seconds)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begin = _processor_seconds()
        try:
            return (yield)
        finally:
            seconds = self.files[item.path.name]
            spent = _processor_seconds() - begin
            if item.get_closest_marker("slow"):
                seconds.slow += spent
            else:
                seconds.quick += spent

    def pytest_sessionfinish(self) -> None:
        stacks = json.loads(FILE.read_text()) if FILE.exists() else {}
        files = stacks.setdefault(STACK, {})
        for name, seconds in self.files.items():
            files[name] = {"quick": round(seconds.quick, 1), "slow": round(seconds.slow, 1)}
        stacks[STACK] = dict(sorted(files.items()))
        FILE.write_text(json.dumps(stacks, indent=1) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--measure", False):
        config.pluginmanager.register(Recorder())


def _processor_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
