"""Which tests a call runs, in which order, and what it says about that.

Without a choice of tests on the command line the slow ones are left out, unless TEST_ALL=1 asks
for all, as .ci/run does. Where SECOND_STACK=1 says that the suite has run on another stack before,
tests that do not depend on the stack are left out.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from tests.support import durations

_LEFT_OUT = pytest.StashKey[Counter[str]]()
ALL = os.environ.get("TEST_ALL") == "1"
SECOND_STACK = os.environ.get("SECOND_STACK") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the slow tests; puts first the files that take longest.

    The tests of a file run in one worker, and at the end none should wait for the other.
    """
    if _leaves_out_slow(config):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.stash[_LEFT_OUT] = Counter(item.path.name for item in slow)
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    if SECOND_STACK:
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("once")])
        items[:] = [item for item in items if not item.get_closest_marker("once")]
    known = durations.measured()

    def rank(item: pytest.Item) -> float:
        seconds = known.get(item.path.name, durations.Seconds())
        return -(seconds.quick + (seconds.slow if ALL else 0))

    items.sort(key=rank)


def pytest_report_header(config: pytest.Config) -> list[str]:
    if not (ALL or _leaves_out_slow(config)) or not durations.measured():
        return []
    return [_time(slow=ALL)]


def _time(slow: bool) -> str:
    time = f"{durations.minutes(slow):.0f} min on two idle cores, according to tests/durations.json"
    if missing := durations.unmeasured():
        return f"at least {time}; {missing} test files are not measured yet"
    return f"about {time}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # of a worker of pytest-xdist
    if output is not None:
        output["left_out"] = dict(session.config.stash.get(_LEFT_OUT, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    left_out = config.stash.get(_LEFT_OUT, Counter[str]())
    if not left_out:
        return
    files = ", ".join(f"{name} ({count})" for name, count in sorted(left_out.items()))
    terminalreporter.section("left out")
    terminalreporter.write_line(f"{left_out.total()} tests marked slow, in {files}.")
    terminalreporter.write_line(
        f"`TEST_ALL=1 make test` runs them too, as .ci/run does: {_time(slow=True)}."
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker of pytest-xdist, which does not see the command line as it was given."""
    node.workerinput["leave_out_slow"] = _leaves_out_slow(node.config)


def _leaves_out_slow(config: pytest.Config) -> bool:
    told = getattr(config, "workerinput", None)
    if told is not None:
        return bool(told["leave_out_slow"])
    chosen = config.option.markexpr or config.option.keyword
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return whole and not chosen and not ALL
