"""The kubeflow commands that talk to a server: the SDK's client against a stand-in for the server.

kfp_stand_in.py is not Kubeflow Pipelines; it checks each request against the SDK's own API models.
"""

from pathlib import Path

import pytest
from kfp_api import check
from kfp_fixtures import Kubeflow
from kfp_stand_in import StandIn, Trouble

from kubeflow import waiting

pytest_plugins = ["kfp_fixtures"]


# The stand-in's own check.


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"display_nam": "a"}, "no field 'display_nam'"),
        ({"display_name": 5}, "5 is no str"),
        ({"mode": "ON"}, "'ON' is no RecurringRunMode"),
        ({"no_catchup": "yes"}, "'yes' is no bool"),
        ({"trigger": {"cron_schedule": {"corn": "x"}}}, "no field 'corn'"),
        ({"runtime_config": {"parameters": ["epochs"]}}, "is no dict"),
        ({"created_at": "yesterday"}, "yesterday"),
    ],
)
def test_the_stand_in_refuses_what_the_api_models_do_not_have(value: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check(value, "V2beta1RecurringRun", "body")


def test_the_stand_in_keeps_a_request_that_the_api_does_not_have() -> None:
    stand_in = StandIn()
    for target in ["/apis/v2beta1/runs?page_sise=3", "/apis/v2beta1/jobs"]:
        status, _ = stand_in.answer("GET", target, {}, b"")
        assert status == 400
    assert stand_in.answer("PUT", "/apis/v2beta1/runs", {}, b"")[0] == 400
    assert stand_in.answer("POST", "/apis/v2beta1/runs", {}, b'{"name": "x"}')[0] == 400
    assert len(stand_in.faults) == 4


# submit


def test_submit_uploads_runs_and_waits(kubeflow: Kubeflow) -> None:
    kubeflow.server.task_script = [
        {},
        {"ExampleGen": ("RUNNING", "")},
        {"ExampleGen": ("SUCCEEDED", ""), "Trainer": ("RUNNING", "")},
        {"ExampleGen": ("SUCCEEDED", ""), "Trainer": ("SUCCEEDED", "")},
    ]
    kubeflow.server.script = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert kubeflow.submit("--param", "epochs=3", "--service-account", "trainer") == 0
    (run,) = kubeflow.server.runs.values()
    (version,) = kubeflow.server.versions.values()
    (experiment,) = kubeflow.server.experiments.values()
    assert run["pipeline_version_reference"] == {
        "pipeline_id": version["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert run["runtime_config"]["parameters"] == {"data_root": "/data", "epochs": 3}
    assert run["service_account"] == "trainer"
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "segmentation"
    lines = kubeflow.out.splitlines()
    assert lines[1].endswith(f"{kubeflow.url}/#/runs/details/{run['run_id']}")
    assert [line.split()[:3] for line in lines[2:-1]] == [
        [">", "ExampleGen", "running"],
        ["+", "ExampleGen", "succeeded"],
        [">", "Trainer", "running"],
        ["+", "Trainer", "succeeded"],
    ]
    assert lines[2] == "> ExampleGen         running"  # no time while it goes on
    assert "90 s" in lines[3]
    assert lines[-1].startswith("Run succeeded")


@pytest.mark.slow
def test_submit_compiles_by_itself(kubeflow: Kubeflow) -> None:
    arguments = ["--set", "train.epochs=7", "--no-wait", "--param", "train_epochs=2"]
    assert kubeflow("submit", *arguments) == 0
    (version,) = kubeflow.server.versions.values()
    spec = version["pipeline_spec"]["pipeline_spec"]
    assert version["display_name"] == "segmentation"
    epochs = spec["root"]["inputDefinitions"]["parameters"]["train_epochs"]
    assert epochs["defaultValue"] == 7
    assert "platforms" in version["pipeline_spec"]["platform_spec"]
    (run,) = kubeflow.server.runs.values()
    assert run["runtime_config"]["parameters"] == {"train_epochs": 2}
    assert kubeflow("submit", *arguments) == 0
    assert "unchanged version" in kubeflow.out


def test_settings_and_a_package_do_not_go_together(kubeflow: Kubeflow) -> None:
    said = kubeflow.refusal("submit", "--package", str(kubeflow.package), "--set", "train.epochs=7")
    assert "--package is compiled already" in said
    assert "did you mean" in kubeflow.refusal("submit", "--set", "train.epoch=7")
    assert kubeflow.server.requests == []


def test_submit_of_the_same_content_makes_no_new_version(uploaded: Kubeflow) -> None:
    assert uploaded.submit("--no-run") == 0
    assert "unchanged version" in uploaded.out
    assert len(uploaded.server.versions) == 1


def test_submit_of_changed_content_makes_a_version_and_runs_it(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    assert uploaded.submit(package=packages[1]) == 0
    assert "new version" in uploaded.out
    first, second = uploaded.server.versions.values()
    assert first["pipeline_id"] == second["pipeline_id"]
    (run,) = uploaded.server.runs.values()
    wanted = second["pipeline_version_id"]
    assert run["pipeline_version_reference"]["pipeline_version_id"] == wanted


def test_content_that_comes_back_becomes_the_newest_version_again(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    for package in (packages[1], packages[0]):
        assert uploaded.submit("--no-run", package=package) == 0
    assert len(uploaded.server.versions) == 3


def test_experiments_are_made_once(kubeflow: Kubeflow) -> None:
    for _ in range(2):
        assert kubeflow.submit("--experiment", "full", "--no-wait") == 0
    assert [each["display_name"] for each in kubeflow.server.experiments.values()] == ["full"]
    assert len(kubeflow.server.runs) == 2
    assert set(kubeflow.server.looks.values()) == {0}  # nobody waits


def test_a_failed_component_is_exit_code_1_and_named(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["RUNNING", "FAILED"]
    kubeflow.server.task_script = [{"Trainer": ("FAILED", "no GPU")}]
    assert kubeflow.submit() == 1
    assert "x Trainer            failed        90 s: no GPU" in kubeflow.out
    assert "Run failed" in kubeflow.out


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_without_verdict_is_exit_code_3(kubeflow: Kubeflow, state: str) -> None:
    kubeflow.server.script = ["RUNNING", state]
    assert kubeflow.submit() == 3
    assert f"Run {state.lower()}" in kubeflow.out


def test_a_run_that_lasts_too_long_is_exit_code_3_and_goes_on(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["RUNNING"]
    assert kubeflow.submit("--timeout", "0.1") == 3
    assert "did not end within 0.1 s and goes on" in kubeflow.out


def test_a_server_that_fails_for_a_while_does_not_end_the_wait(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 503, b"<html>restarting</html>", times=3)]
    assert kubeflow.submit() == 0
    assert kubeflow.out.count("Waiting on.") == 1


def test_a_server_that_stays_away_is_exit_code_3(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_PATIENCE_S", 0.05)
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 503)]
    assert kubeflow.submit() == 3
    assert "The run may go on" in kubeflow.out


def test_rights_that_end_while_waiting_are_exit_code_3(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 401, b'{"message": "token expired"}')]
    assert kubeflow.submit() == 3
    assert "token expired" in kubeflow.out


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("epoch=3", "no parameter 'epoch'; did you mean 'epochs'?"),
        ("epochs=many", "--param epochs is 'many'; it must be a whole number."),
        ("epochs=true", "it must be a whole number"),
        ("bound=high", "it must be a number"),
        ("epochs", "--param takes NAME=VALUE"),
    ],
)
def test_a_bad_parameter_is_found_before_anything_is_sent(
    kubeflow: Kubeflow, parameter: str, sentence: str
) -> None:
    package = str(kubeflow.package)
    arguments = ["--package", package, "--param", "data_root=/data", "--param", parameter]
    assert sentence in kubeflow.refusal("submit", *arguments)
    assert kubeflow.server.requests == []


def test_a_required_parameter_must_have_a_value(kubeflow: Kubeflow) -> None:
    said = kubeflow.refusal("submit", "--package", str(kubeflow.package))
    assert "needs a value for data_root" in said
    assert kubeflow.server.requests == []


def test_a_text_parameter_is_taken_as_it_is(kubeflow: Kubeflow) -> None:
    assert kubeflow.submit("--param", "data_root=007", "--param", "bound=1", "--no-wait") == 0
    (run,) = kubeflow.server.runs.values()
    assert run["runtime_config"]["parameters"] == {"data_root": "007", "bound": 1.0}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.yaml", None, "Cannot read the package"),
        ("bad.yaml", "a: [", "is not valid YAML"),
        ("empty.yaml", "", "is no compiled pipeline"),
        ("other.yaml", "kind: Workflow", "is no compiled pipeline"),
        ("p.json", "{}", "must be a .yaml file"),
    ],
)
def test_a_bad_package_is_found_before_anything_is_sent(
    kubeflow: Kubeflow, tmp_path: Path, name: str, content: str | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert sentence in kubeflow.refusal("submit", "--package", str(tmp_path / name))
    assert kubeflow.server.requests == []


# status


def test_status_shows_version_schedules_and_runs(uploaded: Kubeflow) -> None:
    uploaded.submit("--run-name", "by me", "--param", "epochs=2")
    uploaded("schedule", "--cron", "0 2 * * *", "--param", "data_root=/d")
    assert uploaded("status") == 0
    assert "Kubeflow Pipelines 2.17" in uploaded.out
    assert "newest version segmentation" in uploaded.out
    assert "cron '0 0 2 * * *', next " in uploaded.out
    (line,) = [line for line in uploaded.out.splitlines() if line.endswith("by me")]
    assert "succeeded" in line
    assert "by hand" in line


def test_status_without_runs_and_schedules(uploaded: Kubeflow) -> None:
    assert uploaded("status") == 0
    assert "No schedules." in uploaded.out
    assert "No runs." in uploaded.out
    assert not uploaded.server.experiments  # looking makes nothing
    uploaded.submit("--no-wait", "--experiment", "full")
    assert uploaded("status") == 0
    assert "No runs." in uploaded.out  # in this experiment


def test_status_shows_the_last_runs_first(kubeflow: Kubeflow) -> None:
    for number in range(4):
        kubeflow.submit("--no-wait", "--run-name", f"run{number}")
    assert kubeflow("status", "--runs", "2") == 0
    names = [line.split()[-1] for line in kubeflow.out.splitlines() if "by hand" in line]
    assert names == ["run3", "run2"]
