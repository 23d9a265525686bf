"""Shows the progress and remaining time of long-running work.

On a terminal, a line appears after ten seconds and disappears when the work is done. Elsewhere, as
in a log, a line is printed whenever there was no other output for half a minute.

Progress is counted in files that grow by one byte per photo. The folder is in an environment
variable, so threads and processes of Beam's direct runner can all count. Workers on other machines
do not; there only the elapsed time is shown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.core import console

log = logging.getLogger(__name__)

PATIENCE_S = 10.0  # before the line appears on a terminal
SILENCE_S = 30.0  # without other output before a line elsewhere
_FOLDER = "PIPELINE_PROGRESS"  # environment variable with the folder of the counts
PHOTOS, READ, WRITTEN, STEPS, FILES = "photos", "photos read", "photos written", "steps", "files"

_watches: list[_Watch] = []  # active ones, the innermost last


def count(what: str = PHOTOS) -> None:
    """Count one more done; works in any thread or process of this machine."""
    folder = os.environ.get(_FOLDER)
    if folder:
        # Bytes appended by several writers do not overwrite each other.
        with contextlib.suppress(OSError), open(Path(folder, what), "ab", buffering=0) as file:
            file.write(b".")


def expect(total: int, what: str = PHOTOS) -> None:
    """Set how many are to be done from now on, and in which count."""
    if _watches:
        _watches[-1].expect(total, what)


@contextlib.contextmanager
def watched(
    what: str, terminal: Console | None = None, patience: float | None = None
) -> Iterator[None]:
    """Show the progress of the work inside the context.

    Args:
      what: the name of the work for users.
      terminal: where to show it; by default where `console.quiet` prints, or as log records.
      patience: seconds before the line appears on a terminal; None: `PATIENCE_S`.
    """
    # A Beam worker may still be counting when the context ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        before = os.environ.get(_FOLDER)
        os.environ[_FOLDER] = folder
        watch = _Watch(
            what,
            Path(folder),
            terminal or console.current(),
            PATIENCE_S if patience is None else patience,
        )
        _watches.append(watch)
        try:
            with watch.shown():
                yield
        finally:
            _watches.remove(watch)
            os.environ.pop(_FOLDER)
            if before is not None:
                os.environ[_FOLDER] = before


class _Watch(logging.Handler):
    """Shows the counts from its own thread, and notices other log records."""

    def __init__(self, name: str, folder: Path, terminal: Console | None, patience: float):
        super().__init__()
        self._name, self._folder, self._terminal = name, folder, terminal
        self._patience = patience
        self._begin = self._expected = self._last_output = time.monotonic()
        self._total, self._what, self._before = 0, PHOTOS, 0
        self._over = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._last_output = time.monotonic()

    def expect(self, total: int, what: str) -> None:
        self._total, self._what, self._expected = 0, what, time.monotonic()
        self._before = self._counted()
        self._total = total

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress while the context is active."""
        on_terminal = self._terminal is not None and self._terminal.is_terminal
        thread = threading.Thread(
            target=self._show_live if on_terminal else self._print_lines, daemon=True
        )
        logger = logging.getLogger("pipeline")
        logger.addHandler(self)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            logger.removeHandler(self)

    def _show_live(self) -> None:
        assert self._terminal is not None
        if self._over.wait(self._patience):
            return
        with Live(
            console=self._terminal,
            get_renderable=self._line,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            self._over.wait()

    def _print_lines(self) -> None:
        while not self._over.wait(max(0.01, self._last_output + SILENCE_S - time.monotonic())):
            if time.monotonic() < self._last_output + SILENCE_S:
                continue  # there was other output meanwhile
            self._last_output = time.monotonic()
            if self._terminal is None or self._terminal is console.current():
                # `console.quiet` prints log records to its terminal.
                log.info("%s", self.sentence())
            else:
                console.print_line_to(self._terminal, f"    {self.sentence()}")

    def _line(self) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        if not self._total:
            line.add_row(Text(f"    {self.sentence()}", style="dim"))
            return line
        bar = ProgressBar(self._total, self._done(), width=20)
        line.add_row("   ", bar, Text(self.sentence(), style="dim"))
        return line

    def sentence(self) -> str:
        """Format the progress: ``Transform: 1,200 of 5,881 photos, 0:31 elapsed, 2:01 left``."""
        now, done = time.monotonic(), self._done()
        parts = [f"{done:,} of {self._total:,} {self._what}"] if done else []
        parts.append(f"{clock(now - self._begin)} elapsed")
        if 0 < done < self._total:
            left = (now - self._expected) / done * (self._total - done)
            parts.append(f"{clock(left)} left")
        return f"{self._name}: {', '.join(parts)}"

    def _done(self) -> int:
        # Beam repeats failed bundles, whose photos then count twice.
        return min(self._counted() - self._before, self._total)

    def _counted(self) -> int:
        try:
            return (self._folder / self._what).stat().st_size
        except OSError:
            return 0


def clock(seconds: float) -> str:
    """Format seconds as ``1:05``, or as ``1:02:05`` from an hour on."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
