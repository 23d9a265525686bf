"""The kubeflow commands that talk to a server: the SDK's client against a stand-in for the server.

The stand-in (`tests.support.kfp.stand_in`) is not Kubeflow Pipelines; it checks each request
against the SDK's own API models.
"""

import contextlib
import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from kubeflow import package, submit
from tests.support.kfp.api_server import Trouble
from tests.support.kfp.fixtures import Kubeflow

pytest_plugins = ["tests.support.kfp.fixtures"]


def test_submit_uploads_runs_and_waits(kubeflow: Kubeflow) -> None:
    assert kubeflow.submit("--param", "epochs=3", "--service-account", "trainer") == 0
    (run,) = kubeflow.server.runs.values()
    (version,) = kubeflow.server.versions.values()
    (experiment,) = kubeflow.server.experiments.values()
    assert run["pipeline_version_reference"] == {
        "pipeline_id": version["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    # The run's page shows what is sent and no more, so defaults are sent, too.
    assert run["runtime_config"]["parameters"] == {"data_root": "/data", "epochs": 3, "bound": 0.6}
    assert run["service_account"] == "trainer"
    assert run["experiment_id"] == experiment["experiment_id"]
    assert experiment["display_name"] == "segmentation"
    assert experiment["description"].startswith("Runs started by python -m kubeflow submit")
    first, second, last = kubeflow.out.splitlines()
    assert first == f"Pipeline   segmentation, new version {version['display_name']}"
    assert second.endswith(f"{kubeflow.url}/#/runs/details/{run['run_id']}")
    assert last.startswith("Run succeeded")


def test_a_default_whole_number_is_sent_as_one(kubeflow: Kubeflow) -> None:
    assert kubeflow.submit("--no-wait") == 0  # the compiled file has 50.0
    (run,) = kubeflow.server.runs.values()
    assert repr(run["runtime_config"]["parameters"]["epochs"]) == "50"


@pytest.mark.slow
def test_submit_compiles_by_itself(kubeflow: Kubeflow) -> None:
    arguments = ["--set", "train.epochs=7", "--no-wait", "--param", "train_epochs=2"]
    assert kubeflow("submit", *arguments) == 0
    (version,) = kubeflow.server.versions.values()
    spec = version["pipeline_spec"]["pipeline_spec"]
    definitions = spec["root"]["inputDefinitions"]["parameters"]
    assert definitions["train_epochs"]["defaultValue"] == 7
    assert "platforms" in version["pipeline_spec"]["platform_spec"]
    lines = version["description"].splitlines()
    assert lines[0].startswith("Keeps an image-segmentation model fresh")
    assert {f"- {name}: {each['description']}" for name, each in definitions.items()} < set(lines)
    assert lines[-1].startswith("Content: sha256:")
    (run,) = kubeflow.server.runs.values()
    values = {name: each["defaultValue"] for name, each in definitions.items()}
    assert run["runtime_config"]["parameters"] == {**values, "train_epochs": 2}
    assert kubeflow("submit", *arguments) == 0
    assert "unchanged version" in kubeflow.out


def test_a_version_says_what_it_is(uploaded: Kubeflow) -> None:
    (pipeline,) = uploaded.server.pipelines.values()
    (version,) = uploaded.server.versions.values()
    assert pipeline["description"] == "Trains."
    digest = hashlib.sha256(uploaded.package.read_bytes()).hexdigest()
    assert version["description"].splitlines() == [
        *("Trains.", "", "Parameters of a run:", ""),
        *("- data_root: where the data is.", "- epochs: most epochs to train."),
        *("", f"Content: sha256:{digest[:32]}"),
    ]
    name = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d UTC, {digest[:7]}"
    assert re.fullmatch(name, version["display_name"])


def test_a_version_that_an_older_submit_described_is_known(uploaded: Kubeflow) -> None:
    (version,) = uploaded.server.versions.values()
    digest = hashlib.sha256(uploaded.package.read_bytes()).hexdigest()
    version["description"] = f"Content: sha256:{digest}"
    assert uploaded.submit("--no-run") == 0
    assert "unchanged version" in uploaded.out


def test_no_two_versions_have_one_name(uploaded: Kubeflow, packages: tuple[Path, Path]) -> None:
    """Content that comes back within the minute would have the name that it had before."""
    for path in (packages[1], packages[0], packages[1], packages[0]):
        assert uploaded.submit("--no-run", package=path) == 0
    assert len({each["display_name"] for each in uploaded.server.versions.values()}) == 5


def test_version_names_are_valid_kubernetes_names(kubeflow: Kubeflow) -> None:
    kubeflow.server.pipeline_store = "kubernetes"
    assert kubeflow.submit("--no-run") == 0
    (version,) = kubeflow.server.versions.values()
    name = r"\d{4}-\d\d-\d\d-\d\d-\d\d-utc-[0-9a-f]{7}"
    assert re.fullmatch(name, version["display_name"])


@pytest.mark.parametrize("changed", [False, True])
def test_a_version_is_named_after_the_commit_of_its_code(
    kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "code.py").write_text("")
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    if changed:
        (tmp_path / "code.py").write_text("more")
    monkeypatch.setattr(submit, "_CODE", tmp_path)
    compiled = package.read(kubeflow.package)
    monkeypatch.setattr(submit, "_compiled", lambda _: contextlib.nullcontext(compiled))
    assert kubeflow("submit", "--no-run", "--param", "data_root=/data") == 0
    (version,) = kubeflow.server.versions.values()
    code = compiled.digest[:7] if changed else git("rev-parse", "--short", "HEAD")
    assert version["display_name"].endswith(f" UTC, {code}")


def test_the_next_submit_finishes_an_upload(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("/upload_version", 500, times=1)]
    assert kubeflow.submit("--no-run") == 2
    assert not kubeflow.server.versions
    assert kubeflow.submit("--no-run") == 0
    assert len(kubeflow.server.pipelines) == len(kubeflow.server.versions) == 1


def test_settings_and_a_package_do_not_go_together(kubeflow: Kubeflow) -> None:
    said = kubeflow.refusal("submit", "--package", str(kubeflow.package), "--set", "train.epochs=7")
    assert "--config and --set do not apply to --package" in said
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


def test_earlier_content_becomes_the_newest_version_again(
    uploaded: Kubeflow, packages: tuple[Path, Path]
) -> None:
    for path in (packages[1], packages[0]):
        assert uploaded.submit("--no-run", package=path) == 0
    assert len(uploaded.server.versions) == 3


def test_experiments_are_made_once(kubeflow: Kubeflow) -> None:
    for _ in range(2):
        assert kubeflow.submit("--experiment", "full", "--no-wait") == 0
    assert [each["display_name"] for each in kubeflow.server.experiments.values()] == ["full"]
    assert len(kubeflow.server.runs) == 2
    assert set(kubeflow.server.looks.values()) == {0}  # nobody waits


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("epoch=3", "no parameter 'epoch'; did you mean 'epochs'?"),
        ("epochs=many", "--param epochs is 'many'; it must be a whole number."),
        ("epochs=true", "it must be a whole number"),
        ("bound=high", "it must be a number"),
        ("epochs", "--param is 'epochs'; specify NAME=VALUE"),
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


def test_a_parameter_with_choices_takes_one_of_them(kubeflow: Kubeflow, tmp_path: Path) -> None:
    text = kubeflow.package.read_text()
    cut = "      data_root:\n"
    head, _, tail = text.rpartition(cut)
    path = tmp_path / "choices.yaml"
    path.write_text(f"{head}{cut}        literals: [/data, /more]\n{tail}")
    assert kubeflow.submit("--no-wait", package=path) == 0
    arguments = ["--package", str(path), "--param", "data_root=/elsewhere"]
    said = kubeflow.refusal("submit", *arguments)
    assert "--param data_root is '/elsewhere'; it must be one of /data, /more." in said


def test_a_text_parameter_is_taken_as_it_is(kubeflow: Kubeflow) -> None:
    assert kubeflow.submit("--param", "data_root=007", "--param", "bound=1", "--no-wait") == 0
    (run,) = kubeflow.server.runs.values()
    assert run["runtime_config"]["parameters"] == {"data_root": "007", "bound": 1.0, "epochs": 50}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.yaml", None, "Cannot read the package"),
        ("bad.yaml", "a: [", "is not valid YAML"),
        ("empty.yaml", "", "is not a compiled pipeline"),
        ("other.yaml", "kind: Workflow", "is not a compiled pipeline"),
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
    (version,) = uploaded.server.versions.values()
    assert f"newest version {version['display_name']}" in uploaded.out
    assert "cron '0 0 2 * * *', next " in uploaded.out
    (line,) = [line for line in uploaded.out.splitlines() if line.endswith("by me")]
    assert "succeeded" in line
    assert "manual" in line


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
    names = [line.split()[-1] for line in kubeflow.out.splitlines() if "manual" in line]
    assert names == ["run3", "run2"]
