"""The documentation site: it builds strictly, offline, and from the code as it is."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from kubeflow import settings as kubeflow_settings
from kubeflow.__main__ import COMMANDS
from pipeline.cli import VERBS
from tests.support.chromium import Page
from tests.support.runs import ROOT
from tests.test_accessibility import SCHEMES, axe_in_chromium, violations

# Nothing can be fetched through it.
pytestmark = pytest.mark.once
NOWHERE = "http://127.0.0.1:9"


def build(output: Path, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": ""}
    return subprocess.run(
        [sys.executable, "-m", "docs.website", "--output", str(output)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("website")
    done = build(output)
    assert done.returncode == 0, done.stderr
    return output / "site"


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_setting_is_listed_with_its_meaning(site: Path) -> None:
    text = text_of(site / "reference" / "settings.html")
    for line in kubeflow_settings.describe().splitlines():
        key, _, rest = line.strip().partition(" ")
        assert key in text
        assert rest.split("  ")[-1].strip() in text


def test_every_command_says_what_it_takes(site: Path) -> None:
    text = text_of(site / "reference" / "command_line.html")
    for program, verbs in (("pipeline", VERBS), ("kubeflow", COMMANDS)):
        for verb in verbs:
            assert f"usage: python -m {program} {verb} [-h]" in text
    for command in ("data check", "releases rollback"):
        assert f"usage: python -m pipeline {command} [-h]" in text


def test_every_package_has_a_page(site: Path) -> None:
    packages = {
        path.parent
        for name in ("pipeline", "components", "kubeflow")
        for path in (ROOT / name).rglob("__init__.py")
    }
    names = {".".join(path.relative_to(ROOT).parts) for path in packages}
    assert {page.stem for page in (site / "reference" / "python").glob("*.html")} == names
    text = text_of(site / "reference" / "python" / "pipeline.evaluation.html")
    assert "pixel_accuracy(" in text


def test_the_reference_is_made_without_tensorflow() -> None:
    program = (
        "import sys; from pathlib import Path; from docs.website import api, reference;"
        "root = Path.cwd(); reference.pages(root); api.pages(root);"
        "heavy = {'tensorflow', 'apache_beam', 'ml_metadata'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_every_page_is_accessible(site: Path, browser: Page) -> None:
    # The dark scheme changes the theme's colours, not those of a page.
    both = {"index.html", "first_run.html", "settings.html", "pipeline.settings.html"}
    found = {}
    for page in sorted(site.rglob("*.html")):
        if page.name != "404.html":  # for a server: its addresses begin at the root
            schemes = SCHEMES if page.name in both else SCHEMES[:1]
            found[str(page.relative_to(site))] = violations(browser, page.as_uri(), schemes)
    assert len(found) > 50
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with axe_in_chromium() as page:
        yield page


@pytest.mark.parametrize(
    ("element", "problem"),
    [
        ('<a href="other.html#there">', None),
        ('<a href="https://example.org/">', None),
        ('<a href="nowhere.html">', "nowhere.html leads to no file."),
        ('<a href="other.html#here">', "other.html#here has no such anchor."),
        ('<img src="nowhere.png">', "nowhere.png leads to no file."),
        ('<script src="https://example.org/x.js">', "https://example.org/x.js is loaded from a"),
        ('<script src="">', "has no address."),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, element: str, problem: str | None) -> None:
    (tmp_path / "page.html").write_text(element)
    (tmp_path / "other.html").write_text('<p id="there"></p>')
    problems = importlib.import_module("docs.website.links").problems(tmp_path)
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


@pytest.mark.slow
def test_a_broken_build_says_where(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    names = ("docs", "pipeline", "components", "kubeflow", "tests", "benchmarks", "schemas")
    for name in names:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, tree)
    page = tree / "docs" / "index.md"
    text = page.read_text(encoding="utf-8")
    for link in ("[x](nowhere.md)", "[x](how_to/data.md#nowhere)"):
        page.write_text(f"{text}\n{link}\n", encoding="utf-8")
        done = build(tmp_path / "output", tree)
        assert done.returncode == 1
        assert "index.md" in done.stderr
        assert "Traceback" not in done.stderr
