"""YAML that people write, read so that nothing in it can hang, exhaust or surprise the reader.

PyYAML takes the last of two equal keys, follows aliases that multiply (a "billion laughs"), and
recurses into whatever is nested.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20  # of a file
_MOST_VALUES = 100_000  # aliases written out
_MOST_DEPTH = 50


class Malformed(Exception):
    """The text cannot be used; the message is a clause such as "is not valid YAML at line 3".

    Attributes:
      what: the same without the line, for a text of one.
    """

    def __init__(self, what: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(f"{what} at line {mark.line + 1}" if mark else what)
        self.what = what


def load(text: str) -> Any:
    """The value of a YAML document, None of an empty one.

    Raises:
      Malformed: if it is no YAML, nested or multiplied without end, or has a key twice.
    """
    documents = load_all(text)
    if len(documents) > 1:
        raise Malformed("holds more than one YAML document")
    return documents[0] if documents else None


def load_all(text: str) -> list[Any]:
    """The same of a text with any number of documents."""
    documents = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node() and (node := loader.get_node()):
            _check(node)
            documents.append(loader.construct_document(node))
    except RecursionError:
        raise Malformed("is nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, OverflowError) as error:
        # ValueError: 2026-13-01 is no date. The others: PyYAML at odd numbers and dates.
        mark = getattr(error, "problem_mark", None)
        raise Malformed("is not valid YAML", mark) from None
    return documents


def load_file(path: Path) -> Any:
    """The same of a file, in UTF-8.

    Raises:
      Malformed: also for a large file, and for one that is not UTF-8.
      OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)  # a device has no end
    if len(content) > MOST_BYTES:
        raise Malformed(f"is larger than {MOST_BYTES // 2**20} MB")
    try:
        return load(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Malformed("is not UTF-8 text") from None


def _check(root: yaml.Node) -> None:
    """Looks at a document before it is made: depth, number of values, keys that come twice."""
    measured: dict[int, tuple[int, int]] = {}  # values in a node, and depth, aliases written out

    def measure(node: yaml.Node, depth: int) -> tuple[int, int]:
        if depth > _MOST_DEPTH:  # what holds itself comes here, too
            raise Malformed("is nested too deeply", node.start_mark)
        if id(node) not in measured:
            parts = [measure(each, depth + 1) for each in _children(node)]
            count = 1 + sum(part[0] for part in parts)
            height = 1 + max((part[1] for part in parts), default=0)
            if count > _MOST_VALUES:
                raise Malformed(f"holds more than {_MOST_VALUES:,} values", node.start_mark)
            if height > _MOST_DEPTH:
                raise Malformed("is nested too deeply", node.start_mark)
            measured[id(node)] = count, height
        return measured[id(node)]

    measure(root, 1)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        known: set[tuple[str, str]] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in known:
                    raise Malformed(f"has the key {key.value[:50]!r} twice", key.start_mark)
                known.add((key.tag, key.value))
            yield key
            yield value
    elif not _is_text(node.value):
        raise Malformed("holds a value that is no text", node.start_mark)


def _is_text(value: str) -> bool:
    """Whether all of it are characters: ``"\\ud800"`` is half of one."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
