"""Reads YAML from users without hanging, exhausting memory or hiding mistakes.

PyYAML alone keeps the last of two equal keys, expands aliases exponentially ("billion laughs"), and
recurses without limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20  # of a file
_MOST_VALUES = 100_000  # with aliases expanded
_MOST_DEPTH = 50


class Malformed(Exception):
    """The text is unusable; the message is a clause such as "is not valid YAML at line 3".

    Attributes:
      what: the clause without the line, for text of a single line.
    """

    def __init__(self, what: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(f"{what} at line {mark.line + 1}" if mark else what)
        self.what = what


def load(text: str) -> Any:
    """Return the value of a YAML document; None if it is empty.

    Raises:
      Malformed: if it is not YAML, too deep or too large, or has a key twice.
    """
    documents = load_all(text)
    if len(documents) > 1:
        raise Malformed("contains more than one YAML document")
    return documents[0] if documents else None


def line(value: Any) -> str:
    """Return a JSON value as one line of YAML, from which `load` returns the same value."""
    # In a list, since a value of its own may need further lines to end it.
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf")).strip()[1:-1]


def load_all(text: str) -> list[Any]:
    """Return the values of all YAML documents in a text; see `load`."""
    documents = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node() and (node := loader.get_node()):
            _check(node)
            documents.append(loader.construct_document(node))
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError) as error:
        # PyYAML raises ValueError for 2026-13-01, and the others for odd numbers and dates.
        mark = getattr(error, "problem_mark", None)
        raise Malformed("is not valid YAML", mark) from None
    return documents


def load_file(path: Path) -> Any:
    """Return the value of the YAML document in a file; see `load`.

    Raises:
      Malformed: also if it is larger than `MOST_BYTES` or not UTF-8.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)  # bounded, since a device never ends
    if len(content) > MOST_BYTES:
        raise Malformed(f"is larger than {MOST_BYTES // 2**20} MB")
    try:
        return load(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8 text") from None


def _check(root: yaml.Node) -> None:
    """Check depth, number of values and duplicate keys before the document is constructed."""
    measured: dict[int, tuple[int, int]] = {}  # values and depth by node, aliases expanded

    def measure(node: yaml.Node, depth: int) -> tuple[int, int]:
        if depth > _MOST_DEPTH:  # also catches aliases to their own parent
            raise Malformed("is nested too deeply", node.start_mark)
        if id(node) not in measured:
            parts = [measure(each, depth + 1) for each in _children(node)]
            count = 1 + sum(part[0] for part in parts)
            height = 1 + max((part[1] for part in parts), default=0)
            if count > _MOST_VALUES:
                raise Malformed(f"contains more than {_MOST_VALUES:,} values", node.start_mark)
            if height > _MOST_DEPTH:
                raise Malformed("is nested too deeply", node.start_mark)
            measured[id(node)] = count, height
        return measured[id(node)]

    measure(root, 1)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        keys: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise Malformed(f"has the key {key.value[:50]!r} twice", key.start_mark)
                keys.add((key.tag, key.value))
            yield key
            yield value
    elif not _is_text(node.value):
        raise Malformed("contains a value that is not text", node.start_mark)


def _is_text(value: str) -> bool:
    """Return whether a string has no lone surrogates, such as ``"\\ud800"``."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
