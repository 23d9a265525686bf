"""The rehearsal's own orchestration: tasks, conditions and placeholders as a server treats them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeflow import compiler, orchestration, settings
from pipeline.core.errors import UserError


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    text = compiler.compile_pipeline(settings.load([settings.EXAMPLE_CONFIG]))
    return next(yaml.safe_load_all(text))


class Played:
    """A run whose containers only note what they are given; Plan says where to start."""

    def __init__(
        self, spec: dict[str, Any], root: Path, start: str, failing: str = "", **parameters: Any
    ) -> None:
        self.commands: dict[str, list[str]] = {}
        self._start, self._failing = start, failing
        played = orchestration.Orchestration(spec, "run-7", root, self._execute)
        self.succeeded = played.run(parameters)

    def _execute(self, container: orchestration.Container) -> int:
        self.commands[container.task] = container.command
        if "--start" in container.command:
            Path(self.argument(container.task, "--start")).write_text(self._start)
        return int(container.task == self._failing)

    def argument(self, task: str, name: str) -> str:
        command = self.commands[task]
        return command[command.index(name) + 1]


def test_a_run_begins_with_the_stage_that_has_work(spec: dict[str, Any], tmp_path: Path) -> None:
    played = Played(spec, tmp_path, "nothing")
    assert played.succeeded
    assert list(played.commands) == ["Plan", "Report"]
    verdict = ["Champion", "Evaluator", "Pusher", "Report"]
    assert list(Played(spec, tmp_path, "release").commands) == ["Plan", *verdict]
    assert list(Played(spec, tmp_path, "training").commands) == ["Plan", "Trainer", *verdict]
    whole = list(Played(spec, tmp_path, "data").commands)
    assert whole[0] == "Plan"
    assert whole[-6:] == ["Transform", "Trainer", *verdict]
    assert len(whole) == 14


def test_a_copy_alone_needs_no_other_task(tmp_path: Path) -> None:
    chosen = settings.load([settings.EXAMPLE_CONFIG], ["release.copy_to=gs://bucket/models"])
    copying = next(yaml.safe_load_all(compiler.compile_pipeline(chosen)))
    assert list(Played(copying, tmp_path, "copy").commands) == ["Plan", "Copier", "Report"]


def test_after_a_failure_only_the_report_runs(spec: dict[str, Any], tmp_path: Path) -> None:
    played = Played(spec, tmp_path, "training", failing="Trainer")
    assert not played.succeeded
    assert list(played.commands) == ["Plan", "Trainer", "Report"]
    assert list(Played(spec, tmp_path, "data", failing="Plan").commands) == ["Plan", "Report"]


def test_containers_get_what_a_server_gives_them(spec: dict[str, Any], tmp_path: Path) -> None:
    played = Played(spec, tmp_path, "training", train_epochs=7.0, gate_mean_iou=0.25)
    for task in played.commands:
        assert played.argument(task, "--run-id") == "run-7"
        assert not any("{{" in word for word in played.commands[task])
    assert "train.epochs=7" in played.commands["Trainer"]
    assert "gate.mean_iou=0.25" in played.commands["Trainer"]
    message = json.loads(played.argument("Report", "--executor-input"))
    assert message["inputs"]["parameterValues"]["run_id"] == "run-7"
    (page,) = message["outputs"]["artifacts"]["report"]["artifacts"]
    assert page["type"]["schemaTitle"] == "system.HTML"
    report = played.commands["Report"]
    assert page["uri"] == report[report.index("report", 4) + 1]
    assert Path(page["uri"]).parent.is_dir()


@pytest.mark.parametrize("placeholder", ["{{$.pipeline_job_uuid}}", "{{$.pipeline_task_name}}"])
def test_what_no_server_replaces_is_refused(
    spec: dict[str, Any], tmp_path: Path, placeholder: str
) -> None:
    broken = json.loads(json.dumps(spec))
    container = broken["deploymentSpec"]["executors"]["exec-plan"]["container"]
    container["args"].append(placeholder)
    with pytest.raises(UserError, match=r"The arguments of the task Plan contain .* no server"):
        Played(broken, tmp_path, "data")


def test_a_condition_of_another_kind_is_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(spec).replace("== 'training'", "!= 'training'")
    with pytest.raises(UserError, match="cannot evaluate the condition"):
        Played(json.loads(text), tmp_path, "nothing")
