"""What the docs point at exists: pages, anchors, files, modules and verbs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.cli import VERBS

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = ("benchmarks", "components", "docs", "kubeflow", "pipeline", "requirements", "tests")


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub and MkDocs name them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_module_and_verb_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # A file that the reader writes, another, and a repository.
    other = {"kubeflow/manifests/components/mysql/metadata.env"}
    other |= {"kubeflow/manifests/components/metadata-ca/ca.crt", "kubeflow/pipelines"}
    files = set(re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w/?)", text)) - other
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    modules = set(re.findall(r"-m (benchmarks\.\w+)", text))
    assert [name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()] == []
    verbs = set(re.findall(r"-m pipeline ([a-z]+)", text))
    assert verbs <= VERBS.keys()


def test_every_page_that_a_file_of_the_project_names_exists() -> None:
    """Errors, comments and docstrings send people to pages, too."""
    folders = "|".join(path.name for path in (ROOT / "docs").iterdir() if path.is_dir())
    pattern = re.compile(rf"docs/(?:(?:{folders})/)?[a-z0-9_-]+\.md")
    top = [path for path in ROOT.iterdir() if path.is_file()]
    inner = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
    missing = set()
    for path in (*top, *inner):
        if path.suffix in {"", ".py", ".sh", ".toml", ".yaml"} and path.is_file():
            pages = pattern.findall(path.read_text(encoding="utf-8", errors="replace"))
            missing |= {(path.name, page) for page in pages if not (ROOT / page).exists()}
    assert missing == set()


def test_no_page_is_long() -> None:
    pages = [page for page in PAGES if len(page.read_text(encoding="utf-8").splitlines()) > 250]
    assert pages == []


def test_the_readme_links_every_package() -> None:
    links = re.findall(r"\]\((\w+)/?\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} <= set(links)
