"""Terminal output; everything that is printed goes through this module.

File names, breeds, classes and servers' responses are untrusted text. Control characters, line
breaks and invisible characters in them are escaped (`plain`), so that no name can colour, erase or
forge the output around it.
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

_FILE_WIDTH = 160  # columns, if the output is not a terminal
_FOLDED = 16  # minimum columns of a cell that may be broken anywhere
# Unicode's controls, invisible format characters (including bidirectional ones), surrogates (bytes
# of a file name that is not UTF-8), and line and paragraph separators.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """Escape control and invisible characters and line breaks.

    Example:
      >>> plain("a\\x1b[31m\\nb")
      'a\\\\x1b[31m\\\\nb'
    """
    if text.isprintable():
        return text
    return "".join(map(_plain_character, text))


_terminals: list[Terminal] = []  # of the active `quiet` contexts, the innermost last


def current() -> Console | None:
    """Return the console of the innermost `quiet` context, if any."""
    return _terminals[-1] if _terminals else None


def _plain_character(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte of a file name, as Python decodes it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class Terminal(Console):
    """Rich's console, which escapes every text and table cell with `plain`."""

    def __init__(self, file: TextIO, width: int | None = None, soft_wrap: bool = True):
        super().__init__(
            file=_for_any_text(file), width=width, highlight=False, emoji=False, soft_wrap=soft_wrap
        )

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)


def _for_any_text(stream: TextIO) -> TextIO:
    """Make a stream escape characters that its encoding lacks instead of raising an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class PlainFormatter(logging.Formatter):
    """A formatter that escapes messages with `plain`; only tracebacks span several lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain(super().formatMessage(record))

    def formatException(self, error: Any) -> str:
        return _plain_lines(super().formatException(error))


def _plain_lines(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """Keep warnings and log records of libraries off the terminal."""
    silent = logging.NullHandler()
    # If the root logger has no handler, absl and Python print records to standard error.
    logging.root.addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeHandler(silent)


def command(do: Callable[[], int], argv: Sequence[str] | None, what: str, again: str = "") -> int:
    """Run a command and return its exit code; print an error as one sentence to standard error.

    Args:
      do: the command; returns the exit code.
      argv: its command line, where --verbose asks for tracebacks; None: that of the process.
      what: the subject of "... failed", such as "The run".
      again: a clause that says what to do after an interruption.
    """
    try:
        with errors.stoppable():
            return do()
    except (Exception, KeyboardInterrupt, errors.Stopped) as error:
        sentence, code = errors.explain(error, what, again)
        if "--verbose" in (sys.argv if argv is None else argv):
            print_traceback(error)
    print_error(sentence)
    return code


@contextlib.contextmanager
def quiet(log_file: Path) -> Iterator[Console]:
    """Redirect what libraries print, C++ included, to a log file; yield a console on the terminal.

    Log records of ``pipeline`` loggers reach the terminal too, since they are written for users.
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
        logger = logging.getLogger("pipeline")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        _terminals.append(console)
        try:
            yield console
        finally:
            _terminals.remove(console)
            logger.removeHandler(handler)
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


def print_line_to(console: Console, line: str) -> None:
    """Print one line without interpreting markup in it."""
    console.print(line, markup=False)


def print_start(console: Console, component: str) -> None:
    """Print that a component starts."""
    console.print(f"[cyan]>[/] {component}")


def print_end(console: Console, component: str, state: str, seconds: float) -> None:
    """Print how a component ended."""
    mark = {"failed": "[red]x[/]", "cached": "[dim]=[/]"}.get(state, "[green]+[/]")
    console.print(f"{mark} {component:<18} {state:<9} {seconds:6.1f} s")


def print_table(table: Table, less_important: Sequence[str] = ()) -> None:
    """Print a table to standard output; wide if that is not a terminal.

    Nothing is cut off. Cells wrap between words; in columns with the overflow `fold` they wrap
    anywhere, in columns with `no_wrap` nowhere.

    Args:
      table: the table to print.
      less_important: names of columns to drop, in this order, until the table fits the terminal;
        the caption lists them.
    """
    wide = None if sys.stdout.isatty() else _FILE_WIDTH
    print_table_to(Terminal(sys.stdout, width=wide, soft_wrap=False), table, less_important)


def print_table_to(console: Console, table: Table, less_important: Sequence[str] = ()) -> None:
    """Print a table as `print_table` does, to any console."""
    left_out = []
    for name in less_important:
        if _least_width(console, table) <= console.width:
            break
        table.columns[:] = [column for column in table.columns if column.header != name]
        left_out.append(name)
    if left_out:
        note = f"hidden columns: {', '.join(left_out)}"
        table.caption = f"{table.caption}; {note}" if table.caption else note
    least = _least_width(console, table)
    if least > console.width:  # leave it to the terminal to break the lines
        table.width = least
    console.print(table, crop=False)


def _least_width(console: Console, table: Table) -> int:
    """Return the number of terminal columns that a table needs so that no cell is cut."""
    options = console.options.update(width=10_000)
    total = 1
    for column in table.columns:
        cells = [console.measure(cell, options=options) for cell in [column.header, *column.cells]]
        whole = max(cell.maximum for cell in cells)
        words = max(cell.minimum for cell in cells)
        least = whole if column.no_wrap else words
        total += 3 + (min(_FOLDED, least) if column.overflow == "fold" else least)
    return total


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print one line to standard output or another stream, and flush it."""
    stream = _for_any_text(stream or sys.stdout)
    print(plain(line), file=stream, flush=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print JSON for scripts to standard output; `json.dumps` escapes all but ASCII."""
    print(json.dumps(value, indent=indent), flush=True)


def print_traceback(details: BaseException | str) -> None:
    """Print the traceback of an error, or the text of a traceback, to standard error."""
    if isinstance(details, BaseException):
        details = "".join(traceback.format_exception(details))
    # Indented, because a message in it may have several lines.
    text = textwrap.indent(_plain_lines(details.rstrip()), "  ")
    print(text, file=_for_any_text(sys.stderr), flush=True)


def print_warning(sentence: str) -> None:
    """Print a warning to standard error."""
    print_line(f"Warning: {sentence}", sys.stderr)


def print_error(sentence: str) -> None:
    """Print an error, one sentence, to standard error."""
    print_line(f"Error: {sentence}", sys.stderr)
