"""The command that compiles the pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubeflow import __main__ as command
from kubeflow import compiler, settings
from pipeline.core.errors import UserError
from tests.support.kfp.compiled import Compiled
from tests.support.runs import ROOT

pytest_plugins = ["tests.support.kfp.compiled"]


def test_the_command_writes_the_file(tmp_path: Path, example: Compiled) -> None:
    path = tmp_path / "pipeline.yaml"
    arguments = ["compile", "--config", str(settings.EXAMPLE_CONFIG), "--output", str(path)]
    assert command.main(arguments) == 0
    assert path.read_text() == example.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "components.Trainr.cpu=2"], "Unknown component 'Trainr' in section 'components"),
        (["--set", "pools.a.cuont=1"], "did you mean 'pools.a.count'?"),
        (
            ["--output", "/proc/p.yaml"],
            "Cannot write /proc/p.yaml (No such file or directory)",
        ),
    ],
)
def test_the_command_refuses_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["compile", "--output", str(tmp_path / "p.yaml"), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.yaml").exists()


def test_help_waits_for_no_library() -> None:
    probe = [sys.executable, "-m", "tests.support.programs.loaded", "kubeflow.__main__"]
    for arguments in (["--help"], ["compile", "--help"]):
        done = subprocess.run([*probe, *arguments], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_unknown_components_get_the_nearest_name() -> None:
    chosen = settings.load([], ["components.Pushr.cpu=1"])
    with pytest.raises(UserError, match="did you mean 'Pusher'"):
        compiler.compile_pipeline(chosen)


def test_a_setting_outside_the_sections_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["compile", "--help-settings", "tasks"])
    assert caught.value.code == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading == "tasks:"
    assert line.split()[0] == "tasks"
