"""How far work is: silent while it is short, a line on a terminal, now and then one in a log."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.core import console, progress
from tests.support.runs import ROOT, Run


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0.1)
    monkeypatch.setattr(progress, "SILENCE_S", 0.1)


def test_short_work_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    screen = Tty()
    for terminal in (None, console.Terminal(screen)):
        with progress.watched("Work", terminal):
            progress.expect(2)
            progress.count()
    assert caplog.messages == []
    assert screen.getvalue() == ""


def test_long_work_says_in_a_log_how_far_it_is(
    hurried: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with progress.watched("Work"):
        time.sleep(0.25)
        progress.count()
        progress.expect(4000)
        for _ in range(1000):
            progress.count()
        time.sleep(0.3)
    assert caplog.messages[0] == "Work: 0:00 elapsed"
    assert re.fullmatch(
        r"Work: 1,000 of 4,000 photos, 0:0\d elapsed, 0:0\d left", caplog.messages[-1]
    )
    assert 3 <= len(caplog.messages) <= 6


def test_while_others_speak_it_says_nothing(
    hurried: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with progress.watched("Work"):
        for epoch in range(20):
            logging.getLogger("pipeline.training.loop").info("epoch %d", epoch)
            time.sleep(0.02)
    assert not [message for message in caplog.messages if message.startswith("Work")]


def test_a_terminal_shows_one_line_that_goes(hurried: None) -> None:
    screen = Tty()
    with progress.watched("Work", console.Terminal(screen, width=100)):
        progress.expect(10)
        progress.count()
        time.sleep(0.8)
    shown = screen.getvalue()
    assert "Work: 1 of 10 photos, 0:0" in shown
    assert " left" in shown
    assert shown.endswith("\x1b[2K")  # the line is wiped


def test_a_run_without_a_terminal_gets_lines(
    hurried: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with console.quiet(tmp_path / "log"), progress.watched("Work"):
        time.sleep(0.3)
    assert "    Work: 0:00 elapsed\n" in capfd.readouterr().out


def test_other_processes_count_too(hurried: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counting = [sys.executable, "-m", "tests.support.programs.count_photos"]
    with progress.watched("Work"):
        progress.expect(1000)
        workers = [subprocess.Popen(counting, cwd=ROOT) for _ in range(3)]
        assert [worker.wait() for worker in workers] == [0, 0, 0]
        time.sleep(0.3)
    assert "Work: 300 of 1,000 photos" in caplog.messages[-1]


def test_nobody_who_watches_is_no_fault() -> None:
    progress.expect(3)
    progress.count()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text


@pytest.mark.parametrize(
    ("component", "counted"),
    [
        ("ExampleGen", r"\d+ of 40 photos, "),
        ("StatisticsGen", r"\d+ of 40 photos read, "),
        ("Transform", r"\d+ of 32 photos written, "),
        ("Trainer", r"\d+ of 32 steps, "),
        ("Evaluator", r"\d of 8 photos read, "),
        ("Pusher", ""),
        ("Report", r"\d of 8 photos, "),
    ],
)
def test_every_component_says_how_far_it_is(
    component: str, counted: str, small_run: Run, small_run_progress: list[str]
) -> None:
    said = re.compile(rf"{component}: {counted}\d+:\d\d elapsed(, \d+:\d\d left)?")
    assert small_run.code == 0
    assert any(map(said.fullmatch, small_run_progress)), small_run_progress
