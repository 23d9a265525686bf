"""The tutorials do what they show, command by command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support import tutorials
from tests.support.runs import ROOT

pytestmark = pytest.mark.once
PAGES = ROOT / "docs" / "tutorials"
PARTS = ("components", "kubeflow", "pipeline", "schemas", "local_runner.py")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which commands may leave what they like."""
    folder = tmp_path_factory.mktemp("tutorial")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_every_tutorial_is_tested() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {
        "first_run",
        "your_photos",
        "release_and_rollback",
        "kubeflow",
    }


@pytest.mark.slow
def test_first_run_your_photos_release_and_rollback(checkout: Path) -> None:
    """In the order in which a reader takes them: each builds on the first."""
    for page in ("first_run", "your_photos", "release_and_rollback"):
        tutorials.run(PAGES / f"{page}.md", checkout)


@pytest.mark.slow
def test_kubeflow(checkout: Path) -> None:
    tutorials.run(PAGES / "kubeflow.md", checkout)


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("a  b\nc\n", "a b\nc\n", True),
        ("a\nb\nc\n", "a\n...\nc\n", True),
        ("a\nb\n", "b\na\n", False),
        ("Released version 17 in x\n", "Released version ...\n", True),
        ("status: failed\n", "status: pushed\n", False),
        ("", "...\n", False),
    ],
)
def test_output_is_compared(output: str, expected: str, same: bool) -> None:
    assert tutorials.matches(output, expected) == same


def test_a_page_that_shows_something_else_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\necho one\n```\n\n```text\ntwo\n```\n")
    with pytest.raises(AssertionError, match="line 1 prints\none"):
        tutorials.run(page, tmp_path)
    page.write_text("```bash\necho one\n```\n\n```bash\nfalse\n```\n")
    with pytest.raises(AssertionError, match="line 5 failed"):
        tutorials.run(page, tmp_path)
