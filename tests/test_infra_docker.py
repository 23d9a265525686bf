"""TFX's own InfraValidator on Docker: the model server it starts is a container.

The image tensorflow/serving cannot be had here. A stand-in for it
(`tests.support.serving.stand_in`) runs in an image made of the pipeline's own, with the variables,
the mount and the port that TFX's runner gives the real one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import (
    ROOT,
    SMALL,
    Run,
    only_with_all,
    outcome_of,
    run_locally,
    skips_without,
)
from tests.support.servers.docker_daemon import Daemon
from tests.support.serving.infra_bench import track_the_keras_model

pytestmark = [pytest.mark.once, pytest.mark.slow, pytest.mark.usefixtures("smoke_test_in_process")]

STAND_IN = "tensorflow-serving-stand-in:1"
USER = 1000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    only_with_all("INFRA VALIDATION ON DOCKER")
    with skips_without("INFRA VALIDATION ON DOCKER"):
        started = Daemon(tmp_path_factory.mktemp("docker"), bridge=True)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def image(daemon: Daemon) -> str:
    """The pipeline's image; the stand-in's is there beside it."""
    base = daemon.build("cpu")
    folder = ROOT / "tests/support/serving"
    daemon.docker("build", "--build-arg", f"BASE={base}", "--tag", STAND_IN, str(folder))
    return base


def infra_validation(where: str) -> tuple[str, str]:
    return (f"release.infra_validation={where}", f"release.infra_image={STAND_IN}")


@pytest.mark.usefixtures("untrained", "image")
def test_only_what_the_container_can_serve_is_released(
    daemon: Daemon, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
    chosen = infra_validation("docker")
    with monkeypatch.context() as patch:
        track_the_keras_model(patch)
        refused: Run = run_locally(small_data, tmp_path / "output", *chosen)
    assert refused.code == 0
    assert refused.outcome["status"] == "not_blessed"
    assert refused.versions() == []
    start = (
        f"TensorFlow Serving ({STAND_IN}) could not serve the model: it responded to a request with"
    )
    assert refused.outcome["refused"].startswith(f"{start} FAILED_PRECONDITION: ")
    assert "Could not find variable" in refused.outcome["refused"]

    released = refused.again(*chosen, "train.seed=2")
    assert released.outcome["status"] == "pushed"
    assert released.outcome["infra_blessed"] is True
    assert daemon.docker("ps", "--all", "--quiet").stdout == ""  # none is left behind


@pytest.mark.usefixtures("untrained", "image")
def test_a_missing_server_image_fails_the_run(
    daemon: Daemon, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
    image = "localhost:1/serving:1"  # nothing listens there
    chosen = (*infra_validation("docker"), f"release.infra_image={image}")
    failed = run_locally(small_data, tmp_path / "output", *chosen)
    assert failed.code == 1
    assert failed.outcome["error"].startswith(
        "InfraValidator failed: ServerError: the model could not be tested on a model server ("
    )
    again = failed.again(*infra_validation("docker"))
    assert again.states()["Evaluator"] == "cached"
    assert again.outcome["status"] == "pushed"


def test_a_rehearsal_starts_the_server_on_docker(
    daemon: Daemon, image: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The task that is compiled for a cluster; Docker stands for Kubernetes, as for its pods."""
    output = tmp_path_factory.mktemp("rehearsal") / "output"
    output.mkdir()
    os.chown(output, USER, USER)
    data = small_data
    socket = daemon.socket
    options = ["--rm", "--read-only", "--tmpfs=/tmp", "--network=host"]
    options += [f"--user={USER}:{USER}", f"--group-add={socket.stat().st_gid}"]
    options += [f"--env=DOCKER_HOST=unix://{socket}", f"--volume={socket}:{socket}"]
    options += [f"--volume={output}:{output}", f"--volume={data}:{data}:ro"]
    command = ["python", "-m", "kubeflow", "rehearse", "--image", image]
    command += ["--data-root", str(data), "--output-root", str(output)]
    chosen = (*SMALL, "train.epochs=1", "metadata.kind=sqlite", *infra_validation("kubernetes"))
    for override in chosen:
        command += ["--set", override]
    process = daemon.start("run", *options, image, *command)
    printed, _ = process.communicate(timeout=600)
    print(printed)  # pytest shows it when a test fails
    run = outcome_of(process.returncode, data, output)
    assert run.code == 0
    assert run.states()["InfraValidator"] == "executed"
    assert run.outcome["infra_blessed"] is True
    assert run.outcome["status"] == "pushed"
    assert "+ InfraValidator: executed" in printed
