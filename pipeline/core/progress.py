"""How far a piece of work is, and how long it will take: shown when it lasts longer than a moment.

On a terminal one line says it, from ten seconds on, and goes when the work is done. Elsewhere, in a
log or a pod, a line is said when nobody else has said anything for half a minute.

What was done is counted in files to which each photo adds a byte: it works in the threads and in
the processes of Beam's direct runner alike, for whoever counts need only know an environment
variable. Workers on other machines count nothing; there the time alone is shown.
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

PATIENCE_S = 10.0  # before the line on a terminal
SILENCE_S = 30.0  # before, and between, lines elsewhere
_FOLDER = "PIPELINE_PROGRESS"  # environment variable with the folder to count in
PHOTOS, READ, WRITTEN, STEPS, FILES = "photos", "photos read", "photos written", "steps", "files"

_watches: list[_Watch] = []  # the innermost last


def count(what: str = PHOTOS) -> None:
    """Notes that one more is done; may be called in any thread or process of this machine."""
    folder = os.environ.get(_FOLDER)
    if folder:
        # Appended bytes of several writers do not overwrite each other.
        with contextlib.suppress(OSError), open(Path(folder, what), "ab", buffering=0) as file:
            file.write(b".")


def expect(total: int, what: str = PHOTOS) -> None:
    """Says how many there are to do from now on, and which count counts; earlier ones do not."""
    if _watches:
        _watches[-1].expect(total, what)


@contextlib.contextmanager
def watched(
    what: str, terminal: Console | None = None, patience: float | None = None
) -> Iterator[None]:
    """Shows how far the work within is.

    Args:
      what: its name, as people know it.
      terminal: where to show it; by default where `console.quiet` prints, or as log records.
      patience: seconds before the line on a terminal; None: `PATIENCE_S`.
    """
    # A worker of Beam's may still be counting when it ends.
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
    """Looks at the counts from a thread of its own, and hears what else is said meanwhile."""

    def __init__(self, name: str, folder: Path, terminal: Console | None, patience: float):
        super().__init__()
        self._name, self._folder, self._terminal = name, folder, terminal
        self._patience = patience
        self._begin = self._expected = self._heard = time.monotonic()
        self._total, self._what, self._before = 0, PHOTOS, 0
        self._over = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._heard = time.monotonic()

    def expect(self, total: int, what: str) -> None:
        self._total, self._what, self._expected = 0, what, time.monotonic()
        self._before = self._counted()
        self._total = total

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows it for as long as this lasts."""
        on_terminal = self._terminal is not None and self._terminal.is_terminal
        thread = threading.Thread(
            target=self._show_live if on_terminal else self._say_at_times, daemon=True
        )
        others = logging.getLogger("pipeline")
        others.addHandler(self)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            others.removeHandler(self)

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

    def _say_at_times(self) -> None:
        while not self._over.wait(max(0.01, self._heard + SILENCE_S - time.monotonic())):
            if time.monotonic() < self._heard + SILENCE_S:
                continue  # somebody else has said something
            self._heard = time.monotonic()
            if self._terminal is None or self._terminal is console.current():
                # Records come to it, too.
                log.info("%s", self.sentence())
            else:
                console.say(self._terminal, f"    {self.sentence()}")

    def _line(self) -> RenderableType:
        line = Table.grid(padding=(0, 1))
        if not self._total:
            line.add_row(Text(f"    {self.sentence()}", style="dim"))
            return line
        bar = ProgressBar(self._total, self._done(), width=20)
        line.add_row("   ", bar, Text(self.sentence(), style="dim"))
        return line

    def sentence(self) -> str:
        """How far it is, such as ``Transform: 1,200 of 5,881 photos, 0:31 so far, 2:01 left``."""
        now, done = time.monotonic(), self._done()
        parts = [f"{done:,} of {self._total:,} {self._what}"] if done else []
        parts.append(f"{clock(now - self._begin)} so far")
        if 0 < done < self._total:
            left = (now - self._expected) / done * (self._total - done)
            parts.append(f"{clock(left)} left")
        return f"{self._name}: {', '.join(parts)}"

    def _done(self) -> int:
        # Beam does a bundle that failed again.
        return min(self._counted() - self._before, self._total)

    def _counted(self) -> int:
        try:
            return (self._folder / self._what).stat().st_size
        except OSError:
            return 0


def clock(seconds: float) -> str:
    """Minutes and seconds, ``1:05``; from an hour on with hours, ``1:02:05``."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
