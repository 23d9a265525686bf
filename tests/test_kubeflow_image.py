"""The container image, and the compiled pipeline rehearsed in it, on a Docker daemon of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubeflow import containers, pods
from pipeline.core.errors import UserError
from pipeline.data import synthetic
from tests.support.runs import SMALL, Run, only_with_all, outcome_of, skips_without
from tests.support.servers.docker_daemon import Daemon
from tests.support.servers.mariadb import MariaDB
from tests.support.servers.postgres import PostgreSQL

pytestmark = [pytest.mark.once, pytest.mark.slow]

SETTINGS = (*SMALL, "train.epochs=8")  # long enough to be killed in the middle
USER = 1000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    only_with_all("CONTAINER IMAGE")
    with skips_without("CONTAINER IMAGE"):
        # A socket's path has at most 107 characters.
        started = Daemon(tmp_path_factory.mktemp("docker"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def image(daemon: Daemon) -> str:
    begin = time.monotonic()
    name = daemon.build("cpu")
    size = int(daemon.docker("image", "inspect", "--format", "{{.Size}}", name).stdout)
    print(f"{name}: {size / 1e9:.2f} GB, built in {time.monotonic() - begin:.0f} s")
    return name


class Rehearsals:
    """Rehearses from the image itself, since kfp of the compatible stack cannot."""

    def __init__(
        self, daemon: Daemon, image: str, data: Path, folder: Path, login: dict[str, str]
    ) -> None:
        self._daemon, self._image, self._data = daemon, image, data
        self._environment = {pods.ENVIRONMENT[key]: value for key, value in login.items()}
        self._folder = folder

    def start(self, name: str, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        """Starts a rehearsal, its output folder `name`, with the metadata on MySQL."""
        rehearse = ["python", "-m", "kubeflow", "rehearse", "--image", self._image]
        return self._start(name, rehearse, overrides, **environment)

    def run(self, name: str, *overrides: str, **environment: str) -> tuple[Run, str]:
        """Rehearses; how it ended, and what it printed."""
        return self.ended(name, self.start(name, *overrides, **environment))

    def start_locally(self, name: str) -> subprocess.Popen[str]:
        """Starts the local runner in one container."""
        return self._start(name, ["python", "local_runner.py"], ())

    def ended(self, name: str, process: subprocess.Popen[str]) -> tuple[Run, str]:
        printed, _ = process.communicate(timeout=600)
        print(printed)  # pytest shows it when a test fails
        return outcome_of(process.returncode, self._data, self.output(name)), printed

    def output(self, name: str) -> Path:
        return self._folder / name

    def _start(
        self, name: str, command: list[str], overrides: tuple[str, ...], **environment: str
    ) -> subprocess.Popen[str]:
        output, socket = self.output(name), self._daemon.socket
        if not output.exists():
            output.mkdir()
            os.chown(output, USER, USER)
        options = ["--rm", "--read-only", "--tmpfs=/tmp", "--network=host"]
        options += [f"--user={USER}:{USER}", f"--group-add={socket.stat().st_gid}"]
        options += [f"--volume={socket}:/var/run/docker.sock", f"--volume={output}:{output}"]
        options += [f"--volume={self._data}:{self._data}:ro"]
        for variable, value in {**self._environment, **environment}.items():
            options += [f"--env={variable}={value}"]
        arguments = ["--data-root", str(self._data), "--output-root", str(output)]
        for override in (*SETTINGS, *overrides):
            arguments += ["--set", override]
        return self._daemon.start("run", *options, self._image, *command, *arguments)


@pytest.fixture(scope="module")
def rehearsals(
    daemon: Daemon, image: str, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rehearsals]:
    with skips_without("REHEARSAL"):
        server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    folder = tmp_path_factory.mktemp("rehearsals")
    spans = tmp_path_factory.mktemp("spans") / "data"  # which all may read, pytest's folder not
    shutil.copytree(small_data, spans / "span-1")
    yield Rehearsals(daemon, image, spans, folder, server.login)
    server.stop()


@dataclass(frozen=True)
class Rehearsed:
    """A whole rehearsal whose Trainer was killed once in mid-training, and the same run locally."""

    run: Run
    printed: str
    epochs_when_killed: int
    local: Run


@pytest.fixture(scope="module")
def rehearsed(daemon: Daemon, rehearsals: Rehearsals) -> Rehearsed:
    local = rehearsals.start_locally("local")  # beside the rehearsal, on the other core
    process = rehearsals.start("rehearsal")
    output = rehearsals.output("rehearsal")
    deadline = time.monotonic() + 600
    while not epochs_done(output):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no epoch was trained"
        time.sleep(0.2)
    (trainer,) = daemon.docker("ps", "--quiet", "--filter", "label=task=Trainer").stdout.split()
    daemon.docker("kill", trainer)
    done = epochs_done(output)
    run, printed = rehearsals.ended("rehearsal", process)
    return Rehearsed(run, printed, done, rehearsals.ended("local", local)[0])


def epochs_done(output: Path) -> int:
    """What the training engine has in its working folder, if there is one."""
    states = list(output.glob("artifacts/Trainer/.system/stateful_working_dir/*/state.json"))
    return json.loads(states[0].read_text())["epochs"] if states else 0


def test_the_image_runs_unprivileged_and_read_only(daemon: Daemon, image: str) -> None:
    config = json.loads(daemon.docker("image", "inspect", image).stdout)[0]["Config"]
    assert config["User"] not in ("", "0", "root")
    health = config["Healthcheck"]["Test"]
    assert health[0] == "CMD"
    sealed = ("run", "--rm", "--read-only", "--tmpfs=/tmp", "--network=none", image)
    assert "run one or more nodes" in daemon.docker(*sealed, *health[1:]).stdout
    tools = "for each in cc c++ gcc g++ ld make pip pip3 uv git; do command -v $each; done"
    assert daemon.docker(*sealed, "sh", "-c", tools, check=False).stdout == ""
    # Neither this machine's package index nor its certificates.
    files = (
        "ls /etc/pip.conf /run/secrets .venv/bin/pip .venv/bin/uv 2>/dev/null; find . -name '*.env'"
    )
    assert daemon.docker(*sealed, "sh", "-c", files, check=False).stdout == ""
    write = daemon.docker(*sealed, "touch", "/app/file", check=False)
    assert "Read-only file system" in write.stderr


def test_a_rehearsal_with_a_killed_trainer_equals_the_local_run(rehearsed: Rehearsed) -> None:
    local = rehearsed.local
    assert (local.code, rehearsed.run.code) == (0, 0)
    ours = rehearsed.run.outcome
    assert ours["status"] == "pushed"
    assert rehearsed.run.versions() == [ours["pushed_version"]]
    assert rehearsed.run.states() == local.states()
    assert set(ours) == set(local.outcome)
    for same in ("metrics", "gate", "data", "champion", "settings", "versions"):
        assert ours[same] == local.outcome[same]
    assert "x Trainer: exit code 137, attempt 1 of 3" in rehearsed.printed
    (log,) = (rehearsed.run.output_root / "logs").iterdir()
    going_on = f"Resuming after epoch {rehearsed.epochs_when_killed} of an earlier attempt."
    assert going_on in log.read_text()
    assert (rehearsed.run.output_root / "report.html").stat().st_size > 10_000
    owners = {path.stat().st_uid for path in rehearsed.run.output_root.rglob("*")}
    assert owners == {USER}


def tasks_of(printed: str) -> list[str]:
    """The tasks that a rehearsal started a container for, in order."""
    return [line[2:] for line in printed.splitlines() if line.startswith("> ")]


def test_a_repeated_rehearsal_trains_and_releases_nothing(
    rehearsals: Rehearsals, rehearsed: Rehearsed
) -> None:
    assert tasks_of(rehearsed.printed).count("Trainer") == 2  # it was killed once
    again, printed = rehearsals.run("rehearsal")
    assert again.code == 0
    assert tasks_of(printed) == ["Plan", "Report"]
    assert set(again.states().values()) == {"cached"}
    assert again.versions() == [rehearsed.run.outcome["pushed_version"]]


def test_a_rehearsal_with_a_new_span_trains_from_it_and_releases(
    rehearsals: Rehearsals, rehearsed: Rehearsed
) -> None:
    synthetic.generate(rehearsed.run.data_root / "span-2", count=40, seed=4)
    settings = ("tasks=grouped", "train.epochs=1", "train.start_from=champion")
    run, printed = rehearsals.run("rehearsal", *settings)
    parts = ["ExampleGenToTransform", "Trainer", "ChampionToPusher"]
    assert tasks_of(printed) == ["Plan", *parts, "Report"]
    before = rehearsed.run.outcome["pushed_version"]
    assert run.code == 0
    assert run.outcome["data"]["spans"] == ["span-2"]
    assert {state for name, state in run.states().items() if name != "ImportSchemaGen"} == {
        "executed"
    }
    assert run.outcome["training"]["started_from"] == before
    assert run.outcome["champion"] == {"version": before}
    assert run.outcome["data"]["drift"]["against"] == before
    assert run.versions() == [before, run.outcome["pushed_version"]]


def test_a_container_that_fails_fails_the_rehearsal(rehearsals: Rehearsals) -> None:
    failed, printed = rehearsals.run("failed", "beam.runner=NoRunner", "retries.count=0")
    assert failed.code == 1
    sentence = "ExampleGen failed: "
    assert "Error: ExampleGen failed with exit code 1: " in printed
    # The task that ends every run has reported all the same.
    assert failed.outcome["status"] == "failed"
    assert failed.outcome["error"].startswith(sentence)
    assert failed.states()["ExampleGen"] == "failed"
    assert "StatisticsGen" not in printed


def test_a_rehearsal_on_postgresql_with_tls(
    rehearsals: Rehearsals, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("postgresql")
    with skips_without("REHEARSAL ON POSTGRESQL"):
        server = PostgreSQL(folder)
    try:
        server.with_tls()
        for readable in (folder, *folder.iterdir()):
            os.chown(readable, USER, USER)
        login = {pods.ENVIRONMENT[key]: value for key, value in server.login.items()}
        login |= {"METADATA_HOST": "localhost", pods.CERTIFICATES_VARIABLE: str(folder)}
        store = ("metadata.kind=postgresql", "metadata.tls=verify-full", "tasks=grouped")
        run, printed = rehearsals.run("postgresql", *store, **login)
        again, printed_again = rehearsals.run("postgresql", *store, **login)
        executions = int(server.sql("SELECT count(*) FROM execution", "metadata"))
    finally:
        server.stop()
    assert (run.code, run.outcome["status"]) == (0, "pushed")
    parts = ["ExampleGenToTransform", "Trainer", "ChampionToPusher"]
    assert tasks_of(printed) == ["Plan", *parts, "Report"]
    assert tasks_of(printed_again) == ["Plan", "Report"]
    assert set(again.states().values()) == {"cached"}
    assert again.versions() == [run.outcome["pushed_version"]]
    assert executions > 20  # it was this store that they talked to


def test_an_image_that_docker_lacks_is_named(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
    with pytest.raises(UserError, match="Docker has no image 'missing:1'; run docker build"):
        containers.connect("missing:1")


def test_a_missing_daemon_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
    with pytest.raises(UserError, match=r"Cannot use Docker .*start its daemon"):
        containers.connect("segmentation-pipeline:cpu")
