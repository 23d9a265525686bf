"""The commands in the docs: their options exist, their settings load, their files are there."""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex

import pytest
import yaml
from conftest import ROOT

from kubeflow import __main__ as program
from kubeflow import compiler, settings
from pipeline.settings.arguments import Parser

PAGES = sorted((ROOT / "docs").glob("[her]*/*.md"))  # how_to, explanation, reference


def commands() -> list[list[str]]:
    """The words of each command; a backslash continues it on the next line."""
    words = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            if re.match(r"    (python|kubectl|docker|cp|find|\.ci/)", line):
                with contextlib.suppress(ValueError):  # a quoted text of several lines
                    words.append(shlex.split(line))
    return words


def ours() -> list[list[str]]:
    started = ["python", "-m", "kubeflow"]
    return [words[3:] for words in commands() if words[:3] == started]


@pytest.mark.parametrize("words", ours(), ids=" ".join)
def test_the_command_has_these_options(words: list[str]) -> None:
    parser = Parser(prog=words[0])
    module = importlib.import_module(program.COMMANDS[words[0]][0])
    module.add_arguments(parser)
    parsed = parser.parse_args(words[1:])
    files = [ROOT / file for file in getattr(parsed, "config", None) or []]
    overrides = getattr(parsed, "overrides", None) or []
    settings.load(files, [each for each in overrides if "REGISTRY" not in each])


def test_every_file_that_a_command_names_is_there() -> None:
    named = set()
    for words in commands():
        for word in words:
            if re.match(r"(PROJECT/)?(kubeflow/|\.ci/|requirements/)[\w./-]+$", word):
                named.add(word.removeprefix("PROJECT/"))
    components = "kubeflow/manifests/components"
    made = {f"{components}/{name}" for name in ("mysql/metadata.env", "metadata-ca/ca.crt")}
    assert "kubeflow/manifests/overlays/trial" in named
    assert [path for path in sorted(named - made) if not (ROOT / path).exists()] == []


def test_the_trial_takes_built_in_data_no_gpu_and_no_secret() -> None:
    text = compiler.compile_pipeline(settings.load([ROOT / "kubeflow" / "configs" / "trial.yaml"]))
    assert "nvidia" not in text
    assert "secretAsEnv" not in text
    spec, _ = yaml.safe_load_all(text)
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["data_root"]["defaultValue"] == ""


def test_the_guide_shows_the_expression_of_the_patch() -> None:
    patch = ROOT / "kubeflow/manifests/components/retries/workflow-defaults.yaml"
    wanted = re.sub(r"\s+", "", patch.read_text().partition("expression: >-")[2])
    assert wanted
    page = ROOT / "docs" / "explanation" / "kubeflow_retries.md"
    assert wanted in re.sub(r"\s+", "", page.read_text(encoding="utf-8"))
