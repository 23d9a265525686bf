"""What the docs point at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.runs import ROOT

pytestmark = pytest.mark.once

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not link.startswith(("http://", "https://")) and not (page.parent / link).exists()
    ]
    assert missing == []


def test_readme_names_every_folder_of_the_project() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    for folder in {*packages, "docs"} - {"tests"}:
        assert f"[{folder}/]({folder})" in text
