"""``python -m pipeline VERB``: one list of verbs, one way of telling mistakes."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from pipeline import cli
from tests.support.runs import ROOT


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_lists_every_verb_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for verb, (_, meaning) in cli.VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(meaning)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verbs_help_names_how_it_is_called(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m pipeline {verb} ")


@pytest.mark.parametrize("arguments", [[], ["no-verb"], ["predict"], ["run", "--no-such"]])
def test_a_mistake_is_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"Error: [A-Z].*; --help lists all arguments\.\n", said.err)


def test_both_ways_to_call_it_are_the_same() -> None:
    assert call("local_runner.py", "--help").stdout.startswith("usage: local_runner.py ")
    old, new = call("-m", "pipeline.predict", "--help"), call("-m", "pipeline", "predict", "--help")
    assert (old.returncode, old.stdout) == (new.returncode, new.stdout)


@pytest.mark.parametrize("module", [module for module, _ in cli.VERBS.values()])
def test_no_verb_loads_tensorflow_before_it_knows_its_arguments(module: str) -> None:
    importlib.import_module(module)
    assert call("-m", "tests.support.programs.loaded", module).stdout.strip() == "[]"
