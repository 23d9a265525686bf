"""What a person sees in the terminal; everything that is printed goes through here.

Names of files, breeds and classes, and what servers answer, may hold anything. Whatever would steer
the terminal, begin another line or hide is spelled out (`plain`), so that no name can colour, wipe
or forge what stands around it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import textwrap
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.core import errors

_FILE_WIDTH = 160  # columns, where the output is no terminal
_FOLDED = 16  # columns that a cell has at least that may be broken anywhere
# Unicode's controls, marks without width (also those that turn the direction of writing), halves of
# characters (bytes of a file name that is not UTF-8), and ends of lines and paragraphs.
_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """Text on one line, in which nothing steers a terminal and nothing hides.

    Example:
      >>> plain("a\\x1b[31m\\nb")
      'a\\\\x1b[31m\\\\nb'
    """
    if text.isprintable():
        return text
    return "".join(map(_plain_character, text))


_terminals: list[Terminal] = []  # where `quiet` prints, the innermost last


def current() -> Console | None:
    """The way to the terminal while libraries are kept `quiet`, else None."""
    return _terminals[-1] if _terminals else None


def _plain_character(character: str) -> str:
    if unicodedata.category(character) not in _SPELLED_OUT:
        return character
    if "\udc80" <= character <= "\udcff":  # Python's stand-in for a byte of a file's name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class Terminal(Console):
    """Rich's console, in which every text and every cell of a table is plain."""

    def __init__(self, file: TextIO, width: int | None = None, soft_wrap: bool = True):
        super().__init__(
            file=_for_any_text(file), width=width, highlight=False, emoji=False, soft_wrap=soft_wrap
        )

    def render_str(self, text: str, **how: Any) -> Text:  # type: ignore[override]
        return super().render_str(plain(text), **how)


def _for_any_text(stream: TextIO) -> TextIO:
    """The same stream, which spells out what its encoding lacks instead of failing there."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class PlainFormatter(logging.Formatter):
    """A formatter whose messages are plain; only tracebacks have further lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain(super().formatMessage(record))

    def formatException(self, error: Any) -> str:
        return _plain_lines(super().formatException(error))


def _plain_lines(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """Keeps out of the terminal what libraries warn of, or log, in this process."""
    silent = logging.NullHandler()
    # Where the root logger has no handler, absl installs one that prints; so does Python.
    logging.root.addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeHandler(silent)


def command(do: Callable[[], int], argv: Sequence[str] | None, what: str, again: str = "") -> int:
    """Runs a command; where it ends with an error, that is one sentence on standard error.

    Args:
      do: returns the exit code.
      argv: its command line, in which --verbose asks for tracebacks; None: the process's.
      what: failed then, such as "The run".
      again: what to do after an interruption, in a clause.

    Returns:
      The exit code.
    """
    try:
        with errors.stoppable():
            return do()
    except (Exception, KeyboardInterrupt, errors.Stopped) as error:
        sentence, code = errors.explain(error, what, again)
        if "--verbose" in (sys.argv if argv is None else argv):
            show_traceback(error)
    complain(sentence)
    return code


@contextlib.contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Sends all that libraries print, C++ included, to a log file; yields the way to the terminal.

    Records of the loggers below ``pipeline`` reach the terminal too: they are written for people.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, errors = os.dup(1), os.dup(2)
    with (
        log_file.open("ab", buffering=0) as log,
        os.fdopen(terminal, "w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        console = Terminal(out)
        handler = _ConsoleHandler(console)
        people = logging.getLogger("pipeline")
        people.setLevel(logging.INFO)
        people.addHandler(handler)
        _terminals.append(console)
        try:
            yield console
        finally:
            _terminals.remove(console)
            people.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(terminal, 1)
            os.dup2(errors, 2)
            os.close(errors)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"    {escape(record.getMessage())}", style="dim")


def say(console: Console, line: str) -> None:
    """Prints one line; what it names may hold anything, also what looks like markup."""
    console.print(line, markup=False)


def started(console: Console, component: str) -> None:
    """Says that a component begins."""
    console.print(f"[cyan]>[/] {component}")


def ended(console: Console, component: str, state: str, seconds: float) -> None:
    """Says how a component ended."""
    mark = {"failed": "[red]x[/]", "cached": "[dim]=[/]"}.get(state, "[green]+[/]")
    console.print(f"{mark} {component:<18} {state:<9} {seconds:6.1f} s")


def print_table(table: Table, less_important: Sequence[str] = ()) -> None:
    """Prints a table to standard output, wide where that is no terminal.

    Nothing in it is cut off. A cell is broken between words, one whose column has the overflow
    `fold` anywhere, and one of a column with `no_wrap` nowhere.

    Args:
      table: to print.
      less_important: names of columns that are left out, the first one first, as far as it takes
        to fit the terminal; the caption then says so.
    """
    wide = None if sys.stdout.isatty() else _FILE_WIDTH
    print_whole(Terminal(sys.stdout, width=wide, soft_wrap=False), table, less_important)


def print_whole(console: Console, table: Table, less_important: Sequence[str] = ()) -> None:
    """The same to another terminal."""
    left_out = []
    for name in less_important:
        if _least_width(console, table) <= console.width:
            break
        table.columns[:] = [column for column in table.columns if column.header != name]
        left_out.append(name)
    if left_out:
        said = f"not shown for want of room: {', '.join(left_out)}"
        table.caption = f"{table.caption}; {said}" if table.caption else said
    least = _least_width(console, table)
    if least > console.width:  # the terminal itself breaks the lines
        table.width = least
    console.print(table, crop=False)


def _least_width(console: Console, table: Table) -> int:
    """Columns of the terminal that a table needs so that none of its cells is cut."""
    options = console.options.update(width=10_000)
    total = 1
    for column in table.columns:
        cells = [console.measure(cell, options=options) for cell in [column.header, *column.cells]]
        whole = max(cell.maximum for cell in cells)
        words = max(cell.minimum for cell in cells)
        least = whole if column.no_wrap else words
        total += 3 + (min(_FOLDED, least) if column.overflow == "fold" else least)
    return total


def show(line: str, stream: TextIO | None = None) -> None:
    """Prints one line to standard output, or another stream; at once, also into a pipe."""
    stream = _for_any_text(stream or sys.stdout)
    print(plain(line), file=stream, flush=True)


def show_json(value: Any, indent: int | None = None) -> None:
    """Prints JSON for scripts to standard output, which spells out by itself what is not ASCII."""
    print(json.dumps(value, indent=indent), flush=True)


def show_traceback(details: BaseException | str) -> None:
    """Prints the traceback of an error, or the text of one, for those who asked for it."""
    if isinstance(details, BaseException):
        details = "".join(traceback.format_exception(details))
    # Indented: a message that is part of it may have lines, too.
    text = textwrap.indent(_plain_lines(details.rstrip()), "  ")
    print(text, file=_for_any_text(sys.stderr), flush=True)


def warn(sentence: str) -> None:
    """Prints what a person should know, though the work goes on."""
    show(f"Warning: {sentence}", sys.stderr)


def complain(sentence: str) -> None:
    """Prints an error for a person: one sentence, no traceback."""
    show(f"Error: {sentence}", sys.stderr)
