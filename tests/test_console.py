"""Names and answers that would steer the terminal, forge a line or put markup on a page."""

from __future__ import annotations

import html.parser
import io
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import rich.table
from hypothesis import given
from hypothesis import strategies as st

import pipeline.cli.data
from pipeline.cli import predict
from pipeline.core import console
from pipeline.release import model_card
from pipeline.report import html_page
from pipeline.report import terminal as shown
from pipeline.report.outcome import Outcome

# ESC, a line break, C1's CSI, both ways to turn text round, no width, half a character, a byte.
EVIL = "\x1b[31mred\nError: forged\r\x9b2J\u202egnp.\u2066x\u200b\ufeff\ud800-\udce4\x7f\u2028"


def test_nothing_steers_or_hides() -> None:
    assert console.plain("Käse 猫 😀 a\u00a0b") == "Käse 猫 😀 a\u00a0b"
    assert console.plain(EVIL) == (
        "\\x1b[31mred\\nError: forged\\r\\x9b2J\\u202egnp.\\u2066x"
        "\\u200b\\ufeff\\ud800-\\xe4\\x7f\\u2028"
    )


@given(st.text())
def test_plain_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    found = console.plain(text)
    assert len(found.splitlines()) <= 1
    assert console.plain(found) == found
    found.encode()


def printed(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of both streams, which must be plain."""
    output = capfd.readouterr()
    lines = (output.out + output.err).split("\n")
    for line in lines:
        assert console.plain(line) == line
    return lines


def test_every_way_to_print_is_plain(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    console.print_line(EVIL)
    console.print_warning(EVIL)
    console.print_error(EVIL)
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        console.print_traceback(error)
    table = rich.table.Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    console.print_table(table)
    with console.quiet(tmp_path / "log") as terminal:
        console.print_line_to(terminal, EVIL)
        terminal.print(table)
        # Without what pytest-xdist cannot send on, in the log that pytest keeps of a test.
        sendable = EVIL.encode(errors="ignore").decode()
        logging.getLogger("pipeline.any").info("%s", sendable)
    lines = printed(capfd)
    assert sum("\\x1b" in line for line in lines) >= 9
    assert not any(line.startswith("Error: forged") for line in lines)


def test_json_for_scripts_stays_json(capfd: pytest.CaptureFixture[str]) -> None:
    console.print_json({"name": EVIL})
    assert json.loads("".join(printed(capfd))) == {"name": EVIL}


def test_a_stream_without_utf_8_gets_it_spelled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    console.print_line("Kätzchen")
    table = rich.table.Table("name")
    table.add_row("Kätzchen")
    console.print_table(table)
    sys.stdout.flush()
    assert buffer.getvalue().count(b"K\\xe4tzchen") == 2


def test_messages_of_a_task_are_plain() -> None:
    record = logging.LogRecord("pipeline", logging.INFO, "", 0, "%s", (EVIL,), None)
    assert "\n" not in console.PlainFormatter("%(message)s").format(record)


@pytest.fixture(scope="module")
def evil_data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evil") / "data"
    shutil.copytree(small_data, root)
    for listed in (root / "annotations").glob("*.txt"):
        listed.unlink()
    photo = next((root / "images").iterdir())
    for name in ("\x1b[31mred_4", "a\nb_5", "x\u202e_6"):
        shutil.copy(photo, root / "images" / f"{name}{photo.suffix}")
    return root


def test_check_names_evil_files_plainly(evil_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert pipeline.cli.data.main(["check", str(evil_data)]) == 2
    lines = printed(capfd)
    assert any(line.startswith("    a\\nb_5: the photo has no mask") for line in lines)


def test_a_verdict_names_evil_things_plainly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"[bold]{EVIL}"
    outcome = {
        "status": "pushed",
        "pushed_version": 1,
        "new_version": True,
        "formats": {name: {"files": [name]}},
        "gate": [
            {"metric": name, "slice": name, "value": 1, "bound": 0, "kind": "at_least", "held": 0}
        ],
        "data": {
            "hints": [name],
            "quarantined": [{"id": name, "reason": name}],
            "drift": {
                "against": 1,
                "features": [{"feature": name, "drifted": True, "bound": 1, "distance": 2}],
            },
        },
        "champion": {"version": 1, "note": name},
        "copied_to": name,
    }
    files = dict.fromkeys(("outcome", "serving", "report"), Path(name))
    with console.quiet(tmp_path / "log") as terminal:
        shown.show(terminal, Outcome.model_validate(outcome), files)
    assert sum(line.count("[bold]\\x1b[31mred") for line in printed(capfd)) >= 9


def test_predict_names_evil_files_plainly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert predict.main([EVIL.encode(errors="replace").decode()]) == 2
    assert capfd.readouterr().err.startswith("Error: ")
    assert predict.main([EVIL.encode(errors="replace").decode()]) == 2
    missing = tmp_path / "no\nmodel"
    assert predict.main(["--model", str(missing), "--output-dir", "out", "x.jpg"]) == 2
    printed(capfd)


# Pages

MARKUP = [
    "/data/`![x](http://evil.invalid/x.png)`",
    "``` ![x](//evil.invalid/x.png) ```",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)></script><script>alert(1)</script>",
    "a|b|c\n\n# Heading\n\n- item",
    "&lt;b&gt; &#x3c;img&#x3e; {{ 7*7 }} {% raw %}",
    "~~gone~~ **bold** _it_ $x$ @someone",
    "https://evil.invalid www.evil.invalid mailto:a@evil.invalid",
    "\\`x\\`",
    "'\"</title><b>",
    EVIL,
]


class _Page(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def record(name: str) -> dict[str, Any]:
    return {
        "version": 1,
        "released": "2026-01-01",
        "digest": "d",
        "code": "c",
        "data_root": name,
        "data": {"splits": {"train": 3}, "quarantined": 0},
        "settings": {"model.name": name, "data.breeds": [name]},
        "metrics": {f"breed={name}": {"mean_iou": 0.5, "iou": {name: 0.5}}},
        "gate": [{"metric": f"iou_{name}", "slice": name, "value": 1, "bound": 0, "held": True}],
        "versions": {"tfx": "1"},
    }


@pytest.mark.parametrize("name", MARKUP, ids=range(len(MARKUP)))
def test_a_model_card_shows_names_as_they_are(name: str) -> None:
    harmless = _Page(model_card.html(model_card.markdown(record("plain"))))
    card = model_card.markdown(record(name))
    page = _Page(model_card.html(card))
    assert page.tags == harmless.tags
    assert page.text.count(console.plain(name)) >= 5
    assert card.count("\n") == model_card.markdown(record("plain")).count("\n")
    for link in ("http://", "https://", "www.", "mailto:"):  # which GitHub makes links of
        assert link not in card


@pytest.mark.parametrize("name", MARKUP, ids=range(len(MARKUP)))
def test_a_report_shows_names_as_they_are(name: str) -> None:
    def outcome(name: str) -> dict[str, Any]:
        return {
            "status": "failed",
            "error": name,
            "serving_dir": name,
            "model_name": name,
            "data": {
                "hints": [name],
                "quarantined": [{"id": name, "reason": name}],
                "notes": [{"id": name, "note": name}],
                "spans": [name],
                "unlisted": [name],
                "splits": {name: 3},
            },
            "metrics": {f"breed={name}": {"mean_iou": 0.5}},
            "settings": {"data.breeds": [name]},
            "versions": {name: name},
        }

    page = _Page(html_page.render(Outcome.model_validate(outcome(name)), [], []))
    assert (
        page.tags == _Page(html_page.render(Outcome.model_validate(outcome("plain")), [], [])).tags
    )
    assert page.text.count(console.plain(name)) >= 5
    assert os.linesep + "# Heading" not in page.text


VERDICT = {
    "status": "not_blessed",
    "new_version": False,
    "gate": [
        {"metric": "mean_iou", "slice": "overall", "value": 0.8, "bound": 0.75}
        | {"kind": "at_least", "held": True},
        {"metric": "mean_iou", "slice": "overall", "value": -0.068, "bound": -0.01}
        | {"kind": "change", "held": False},
    ],
    "data": {"hints": [], "quarantined": [], "drift": {"against": None, "features": []}},
    "champion": None,
}


def test_a_verdict_names_the_missed_threshold(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = dict.fromkeys(("outcome", "serving", "report"), tmp_path)
    with console.quiet(tmp_path / "log") as terminal:
        shown.show(terminal, Outcome.model_validate(VERDICT), files)
    said = capfd.readouterr().out
    assert ("Not released: 1 of 2 thresholds missed: mean_iou vs champion (overall).\n") in said
    assert "failed" not in said


def wide_table() -> rich.table.Table:
    table = rich.table.Table(title="Releases")
    for name in ("version", "status", "released", "mean IoU", "accuracy", "photos", "data"):
        fold = name == "data"
        table.add_column(
            name, no_wrap=not fold and name != "status", overflow="fold" if fold else "ellipsis"
        )
    row = "1795640024", "in service, rollback to 1795640000", "2026-11-26 14:49"
    table.add_row(*row, "0.713", "0.812", "3000 / 400 / 600", "/data/" + "x" * 60)
    return table


@pytest.mark.parametrize("width", range(8, 200, 6))
def test_a_table_keeps_numbers_whole_on_any_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    console.print_table(wide_table(), less_important=("accuracy", "photos", "data", "released"))
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    text = "\n".join(lines)
    assert "1795640024" in text
    assert "mean IoU" in text
    assert "0.713" in text
    assert "…" not in text
    left_out = " ".join(text.partition("hidden columns:")[2].split())
    for name, cell in (("accuracy", "0.812"), ("photos", "3000 / 400 / 600")):
        assert (cell in text) != (name in left_out)
    if width >= 62:
        assert max(map(len, lines)) <= width
    if width >= 80:
        assert "data" not in left_out
