"""Each package imports only what its docstring says that it may: ``May import: ...``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import ROOT

pytestmark = pytest.mark.once

PACKAGES = {
    ".".join(file.parent.relative_to(ROOT).parts): file.parent
    for pattern in ("components", "kubeflow", "pipeline/*")
    for file in ROOT.glob(f"{pattern}/__init__.py")
}


def may_import(package: str) -> set[str]:
    """What the docstring names; with ``may import`` at its end, also what those may import."""
    text = ast.get_docstring(ast.parse((PACKAGES[package] / "__init__.py").read_text())) or ""
    found = re.search(r"May import: (.+?)\.(?:\s|$)", text, re.DOTALL)
    assert found, f"{package} does not say what it may import"
    named = set(re.findall(r"`(.+?)`", found[1]))
    assert named <= PACKAGES.keys()
    if found[1].split()[-2:] == ["may", "import"]:
        return named.union(*map(may_import, named))
    return named


def imported(folder: Path) -> Iterator[str]:
    """Full names of what the modules of a folder import."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file} has a relative import"
                yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_docstring_says(package: str) -> None:
    names = set(imported(PACKAGES[package]))
    used = {each for each in PACKAGES if any(f"{name}.".startswith(f"{each}.") for name in names)}
    assert used - {package} <= may_import(package)


def test_the_contract_about_the_direction_names_every_package() -> None:
    layers = re.search(r"^layers = \[(.+?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert layers
    assert set(re.findall(r"[\w.]+", layers[1])) == PACKAGES.keys()
