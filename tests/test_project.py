"""What every project has, and that its version is the same wherever it stands."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from pipeline import __version__
from tests.support.runs import ROOT

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "file",
    [
        *("LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff"),
        *(
            ".pre-commit-config.yaml",
            ".github/workflows/ci.yml",
            ".github/pull_request_template.md",
        ),
        *(f"{package}/py.typed" for package in ("pipeline", "components", "kubeflow", "schemas")),
    ],
)
def test_required_files_exist(file: str) -> None:
    assert (ROOT / file).is_file()


def test_the_map_has_every_folder_of_code() -> None:
    text = (ROOT / "docs" / "explanation" / "design.md").read_text()
    inits = [file for at in ("*", "*/*") for file in ROOT.glob(f"{at}/__init__.py")]
    folders = {f"{file.parent.relative_to(ROOT)}/" for file in inits} | {"requirements/"}
    inside = ("pipeline/", "tests/support/")  # listed package by package, and a part of tests
    assert [folder for folder in folders.difference(inside) if f"`{folder}`" not in text] == []


def test_the_version_is_the_same_everywhere() -> None:
    stated = {
        "CHANGELOG.md": r"^## (\d\S+)",
        "CITATION.cff": r"^version: (\S+)",
        "docs/how_to/kubeflow_install.md": r"segmentation:(\d+\.\d+\.\d+)-cpu",
        "kubeflow/configs/gke.yaml": r"segmentation:(\d+\.\d+\.\d+)-cpu",
    }
    for file, pattern in stated.items():
        found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
        assert found, file
        assert found[1] == __version__, file
    setup = [sys.executable, "setup.py", "--version"]
    said = subprocess.run(setup, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == __version__


def test_the_hosted_workflow_calls_what_the_gate_calls() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["suite"]["steps"]]
    assert any(step.endswith(".ci/run") for step in steps)


def test_the_hooks_name_programs_that_are_installed() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for hook in config["repos"][0]["hooks"]:
        program, *arguments = hook["entry"].split()
        assert (ROOT / program).exists(), hook["id"]
        if arguments[:1] == ["-m"]:
            assert importlib.util.find_spec(arguments[1]), hook["id"]
