"""A model server tries the candidate before its release; here without Docker or a cluster.

TFX's own InfraValidator asks, with its own gRPC client, a stand-in for TensorFlow Serving
(`tests.support.serving.stand_in`) that a runner of the test starts in this process.
tests/test_infra_docker.py has TFX's runner and a container.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from docker import errors as docker_errors
from tfx.components.infra_validator import error_types
from tfx.components.infra_validator.model_server_clients import tensorflow_serving_client
from tfx.components.infra_validator.model_server_runners import local_docker_runner

import local_runner
from kubeflow import containers, tasks
from kubeflow import settings as cluster_settings
from pipeline import settings
from pipeline.core.errors import ServerError, UserError
from pipeline.orchestration.pipeline import create_pipeline
from pipeline.release import infra_validation
from pipeline.saved_model import contract
from tests.support.runs import Run, run_locally, skip_training
from tests.support.serving.infra_bench import IMAGE, ON_DOCKER, Bench, Runner, track_the_keras_model

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.fixture(autouse=True)
def _runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_docker_runner, "LocalDockerRunner", Runner)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_sound_model_is_blessed(bench: Bench) -> None:
    bench.export()
    assert bench.verdict() == (True, "")


def test_a_model_that_loads_but_cannot_answer_is_refused(bench: Bench) -> None:
    """What TFX's own component refuses without a word, and Python's loader does not notice."""
    path = bench.export(sound=False)
    assert tf.saved_model.load(str(path)).signatures[contract.EVALUATE](tf.constant([""]))
    blessed, reason = bench.verdict()
    assert not blessed
    start = (
        f"TensorFlow Serving ({IMAGE}) could not serve the model: it responded to a request with "
    )
    assert reason.startswith(f"{start}FAILED_PRECONDITION: ")
    assert "Could not find variable" in reason
    assert "\n" not in reason


def test_a_model_that_does_not_load_is_refused(bench: Bench) -> None:
    data = next((bench.export() / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:10])
    blessed, reason = bench.verdict()
    assert not blessed
    assert reason.startswith(
        f"TensorFlow Serving ({IMAGE}) could not serve the model: it failed to"
    )


def test_no_server_is_started_for_a_model_that_the_gate_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_docker_runner, "LocalDockerRunner", None)
    assert bench.verdict(blessed=False) == (False, "")


@pytest.mark.parametrize(
    "error",
    [
        docker_errors.ImageNotFound("no such image"),
        error_types.DeadlineExceeded("Deadline exceeded while waiting for pod to be running."),
    ],
)
def test_what_is_no_fault_of_the_model_is_no_verdict(
    error: Exception, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Runner, "Start", fail)
    bench.export()
    with pytest.raises(ServerError, match="the model could not be tested on a model server"):
        bench.verdict()


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"])
def test_a_server_that_is_lost_while_it_is_asked_is_no_verdict(
    code: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode[code]

        def details(self) -> str:
            return "connection reset"

    def lose(*_: object) -> None:
        raise Lost

    monkeypatch.setattr(tensorflow_serving_client.TensorFlowServingClient, "_SendRequest", lose)
    bench.export()
    with pytest.raises(ServerError, match=f"to the model server was lost \\({code}\\)"):
        bench.verdict()


def test_a_crashed_server_fails_the_candidate_even_without_a_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise error_types.JobAborted("Container not found")

    def gone(*_: object) -> None:
        raise docker_errors.NotFound("No such container")

    monkeypatch.setattr(Runner, "WaitUntilRunning", end)
    monkeypatch.setattr(Runner, "GetLogs", gone)
    bench.export()
    assert bench.verdict()[1].endswith(
        "could not serve the model: it exited before it had loaded the model."
    )


def pipeline_of(*overrides: str) -> dict[str, Any]:
    made = create_pipeline(
        data_root="data",
        pipeline_root="artifacts",
        serving_dir="serving",
        settings=settings.load(overrides=overrides),
    )
    return {each.id: each for each in made.components}


def test_nothing_of_it_shows_where_it_is_off() -> None:
    plain = pipeline_of()
    assert "InfraValidator" not in plain
    assert "infra" not in str(plain["Pusher"].exec_properties)
    other = pipeline_of("release.infra_image=other/server:1")
    assert other["Pusher"].exec_properties == plain["Pusher"].exec_properties


@pytest.mark.parametrize(
    ("image", "name", "tag", "digest"),
    [
        (IMAGE, "tensorflow/serving", "2.20.0", ""),
        ("localhost:5000/serving:1", "localhost:5000/serving", "1", ""),
        (f"r.example/serving@sha256:{'0' * 64}", "r.example/serving", "", f"sha256:{'0' * 64}"),
    ],
)
def test_the_image_reaches_tfx(image: str, name: str, tag: str, digest: str) -> None:
    chosen = settings.load(overrides=[ON_DOCKER, f"release.infra_image={image}"])
    server = infra_validation.serving_spec(chosen.release).tensorflow_serving
    assert (server.image_name, [*server.tags], [*server.digests]) == (
        name,
        [tag] if tag else [],
        [digest] if digest else [],
    )


@pytest.mark.parametrize("value", ["off", "false", "no"])
def test_yamls_off_is_off(value: str) -> None:
    chosen = settings.load(overrides=[f"release.infra_validation={value}"])
    assert chosen.release.infra_validation == "off"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "release.infra_validation=true",
            "'release.infra_validation' is 'true' (from --set)",
        ),
        ("release.infra_validation=swarm", "must be 'off', 'docker' or 'kubernetes'"),
        ("release.infra_image=tensorflow/serving", "must be an image with a tag or digest"),
        ("release.infra_image=localhost:5000/serving", "must be an image with a tag"),
    ],
)
def test_wrong_settings_are_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        settings.load(overrides=[override])
    assert sentence in str(caught.value)


def test_docker_is_refused_on_a_cluster() -> None:
    with pytest.raises(UserError, match="docker, which pods on a cluster cannot use") as told:
        cluster_settings.load(overrides=[ON_DOCKER])
    assert "\n" not in str(told.value)
    from_the_run_form = settings.load(overrides=[ON_DOCKER])
    run = tasks.Run("1", from_the_run_form, Path("data"), Path("output"), None)
    with pytest.raises(UserError, match=r"^Setting release.infra_validation is docker, which pods"):
        tasks.check_release(run)


def test_a_rehearsal_needs_the_daemons_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
    asked = ["metadata.kind=sqlite", "release.infra_validation=kubernetes"]
    with pytest.raises(UserError, match=r"socket, but .*/nothing is not a socket"):
        containers.check_environment(cluster_settings.load(overrides=asked))


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("docker", "is 'docker', but the Docker daemon at unix:///"),
        ("kubernetes", "is 'kubernetes', which works only in a Kubeflow Pipelines pod"),
    ],
)
def test_a_run_without_docker_or_cluster_is_refused_before_it_begins(
    where: str,
    sentence: str,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
    arguments = ["--data-root", str(small_data), "--output-root", str(tmp_path / "output")]
    arguments += ["--set", f"release.infra_validation={where}"]
    assert local_runner.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: Setting 'release.infra_validation' {sentence}")
    assert not (tmp_path / "output" / "metadata.sqlite").exists()


@pytest.mark.slow
def test_a_model_that_no_server_can_run_is_not_released(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(infra_validation, "check", lambda release: None)
    skip_training(monkeypatch)
    with monkeypatch.context() as patch:
        track_the_keras_model(patch)
        refused: Run = run_locally(small_data, tmp_path / "output", ON_DOCKER)
    assert refused.code == 0
    assert refused.states()["InfraValidator"] == "executed"
    assert refused.outcome["status"] == "not_blessed"
    assert refused.outcome["infra_blessed"] is False
    assert refused.versions() == []
    sentence = (
        f"TensorFlow Serving ({IMAGE}) could not serve the model: it responded to a request with"
    )
    assert refused.outcome["refused"].startswith(sentence)
    assert f"Not released: {sentence}" in capfd.readouterr().out
    report = (tmp_path / "output" / "report.html").read_text()
    assert "Not released: no server could serve it" in report

    released = refused.again(ON_DOCKER, "train.seed=2")
    assert released.outcome["status"] == "pushed"
    assert released.outcome["infra_blessed"] is True
    assert released.again(ON_DOCKER, "train.seed=2").states()["InfraValidator"] == "cached"
