"""Runs the commands of a tutorial as its reader would, and compares what they print.

A block of ``bash`` is run; a block of ``text`` after it is what it prints, where ``...`` stands for
anything. Other blocks are only for reading. All blocks of a page run in one shell.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "@@ end of block"
_LONGEST = 1500  # seconds for one page


@dataclass(frozen=True)
class Step:
    """One block of commands."""

    commands: str
    line: int  # of the page, where the block begins
    expected: str | None  # None: nothing is compared


def steps(page: Path) -> Iterator[Step]:
    """The blocks of a page that run, each with what it is to print."""
    text = page.read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] == "bash":
            shown = following[2] if following is not None and following[1] == "text" else None
            yield Step(block[2], text.count("\n", 0, block.start()) + 1, shown)


def run(page: Path, folder: Path) -> None:
    """Runs a page in a folder.

    Raises:
      AssertionError: a command fails, or does not print what the page shows.
    """
    todo = list(steps(page))
    assert todo, f"{page.name} has no commands"
    # Standard input is the script itself, which no command may read.
    parts = [f"{{\n{step.commands}\n}} < /dev/null\necho; echo '{_MARK}'\n" for step in todo]
    script = "set -euo pipefail -m\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    done = subprocess.run(
        ["bash", "-s"],
        input=script + "".join(parts),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LONGEST,
    )
    outputs = done.stdout.split(f"{_MARK}\n")
    for step, output in zip(todo, outputs, strict=False):
        if step.expected is not None and not matches(output, step.expected):
            raise AssertionError(
                f"{page.name}, line {step.line} prints\n{output}\nbut shows\n{step.expected}"
            )
    ended = len(outputs) - 1
    assert ended == len(todo), f"{page.name}, line {todo[ended].line} failed:\n{outputs[-1]}"
    assert done.returncode == 0, outputs[-1]


def matches(output: str, expected: str) -> bool:
    """Whether the lines that a page shows were printed, in their order.

    Spaces do not count, and ``...`` stands for anything, on a line of its own for further lines.
    """
    printed = (" ".join(line.split()) for line in output.splitlines())
    shown = (" ".join(line.split()) for line in expected.splitlines())
    patterns = (".*".join(map(re.escape, line.split("..."))) for line in shown if line)
    return all(any(re.fullmatch(pattern, line) for line in printed) for pattern in patterns)
