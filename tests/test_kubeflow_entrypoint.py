"""Tasks as the containers run them: processes of their own, tied by the metadata store alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, Run
from forked import Forked
from mariadb import MariaDB, Unavailable
from tfx.orchestration import metadata as tfx_metadata

from kubeflow import entrypoint, metadata, pods, tasks
from pipeline import builtin_data, settings
from pipeline.errors import UserError
from pipeline.outcome import RunArtifacts

NODES = [
    *("ExampleGen", "ImportSchemaGen", "StatisticsGen", "ExampleValidator"),
    *("ReleasedData", "DriftValidator", "DataGate"),
    *("Transform", "Trainer", "Champion", "Evaluator", "Pusher"),
]


class Cluster:
    """Runs tasks one by one, as Kubeflow Pipelines would, on one data and output folder."""

    def __init__(self, data_root: Path, output_root: Path, **environment: str) -> None:
        self.data_root = data_root
        self.output_root = output_root
        self.environment = environment
        self.metadata = "mysql" if environment else "sqlite"
        self._started = 0

    def start(self, task: list[str], run: str, *overrides: str) -> Forked:
        arguments = [*task, "--run-id", run, "--output-root", str(self.output_root)]
        arguments += ["--data-root", str(self.data_root), "--metadata", self.metadata]
        # In all three ways that the compiled pipeline uses.
        arguments += ["--pinned", json.dumps({"transform.image_size": 64})]
        for override in (*SMALL[1:4], *overrides):
            arguments += ["--set", override]
        arguments += ["--settings", "; ".join(SMALL[4:])]
        self._started += 1
        log = self.output_root.with_name(f"task-{self._started}.log")
        return Forked(entrypoint.main, arguments, log, self.environment)

    def run(self, node: str, run: str, *overrides: str) -> tuple[int, str]:
        """Exit code and last line of the log of one node."""
        return ended(self.start(["run", node], run, *overrides))

    def prepare(self, run: str, *node_ids: str) -> list[str]:
        """Runs nodes in this process, where TensorFlow is loaded already; how each went."""
        self.output_root.mkdir(exist_ok=True)
        connection = metadata.connection(self.metadata, self.output_root, self.environment)
        whole = tasks.Run(
            run, settings.load([], SMALL), self.data_root, self.output_root, connection
        )
        return [tasks.run_node(whole, node_id) for node_id in node_ids]

    def report(self, run: str, folder: Path) -> tuple[int, str, dict[str, Any]]:
        """The same of the report task, and the executor output that it wrote."""
        outputs = {
            "outputFile": str(folder / "output.json"),
            "artifacts": {
                name: {"artifacts": [{"name": name, "uri": f"s3://bucket/{name}"}]}
                for name in ("html", "metrics")
            },
        }
        task = ["report", "--executor-input", json.dumps({"outputs": outputs})]
        task += ["--html", str(folder / "a" / "html"), "--metrics", str(folder / "a" / "metrics")]
        code, last = ended(self.start(task, run))
        return code, last, json.loads((folder / "output.json").read_text())

    @property
    def outcome(self) -> dict[str, Any]:
        return json.loads((self.output_root / "latest_run.json").read_text())

    def artifacts(self, run: str) -> RunArtifacts:
        path = str(self.output_root / "metadata.sqlite")
        return RunArtifacts(tfx_metadata.sqlite_metadata_connection_config(path), run)


def ended(process: Forked) -> tuple[int, str]:
    code, out = process.wait()
    print(out)  # pytest shows it when a test fails
    return code, out.splitlines()[-1]


@pytest.mark.slow
def test_a_run_of_separate_processes_ends_as_the_local_one(
    small_run: Run, small_data: Path, tmp_path: Path
) -> None:
    cluster = Cluster(small_data, tmp_path / "output")
    for node in NODES:
        code, last = cluster.run(node, "run-1")
        assert code == 0, last
        expected = "done" if node in ("ReleasedData", "Champion") else "executed"
        assert last.startswith(f"{node}: {expected} in ")
    code, last, written = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert last.startswith("Report: status pushed, reported in ")

    ours, local = cluster.outcome, small_run.outcome
    assert ours["metrics"] == local["metrics"]
    for same in ("status", "gate", "data", "champion", "settings", "model_name", "versions"):
        assert ours[same] == local[same]
    assert {c["id"]: c["state"] for c in ours["components"]} == {
        c["id"]: c["state"] for c in local["components"]
    }
    assert set(ours) == set(local)
    assert (
        cluster.output_root / "serving" / ours["model_name"] / str(ours["pushed_version"])
    ).is_dir()

    html = (tmp_path / "kfp" / "a" / "html").read_bytes()
    assert html == (cluster.output_root / "report.html").read_bytes()
    (metrics,) = written["artifacts"]["metrics"]["artifacts"]
    assert metrics["uri"] == "s3://bucket/metrics"
    assert metrics["metadata"]["mean_iou"] == local["metrics"]["overall"]["mean_iou"]
    assert metrics["metadata"]["released"] == 1.0

    # The same work in another run is answered from the cache; in the same run it is done already.
    states = dict(zip(NODES, cluster.prepare("run-2", *NODES), strict=True))
    assert {states[node] for node in NODES[: NODES.index("Champion")]} == {"cached", "done"}
    assert cluster.prepare("run-1", "ExampleGen", "Trainer") == ["executed", "executed"]
    assert len(list((cluster.output_root / "artifacts" / "Trainer" / "model").iterdir())) == 1


@pytest.mark.slow
def test_refused_data_ends_with_code_2_and_the_sentence_in_log_and_report(tmp_path: Path) -> None:
    builtin_data.generate(tmp_path / "data", count=40, seed=3)
    for path in sorted((tmp_path / "data" / "images").iterdir())[:5]:
        path.write_bytes(b"no photo")
    cluster = Cluster(tmp_path / "data", tmp_path / "output")
    cluster.prepare("run-1", *NODES[: NODES.index("DataGate")])
    code, last = cluster.run("DataGate", "run-1")
    assert code == 2
    assert last.startswith("DataGate refused: 5 of 40 items are faulty, more than ")
    code, last, written = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert "status failed, because '5 of 40 items are faulty" in last
    assert cluster.outcome["error"].startswith("5 of 40 items are faulty")
    assert cluster.outcome["components"][-1]["state"] == "failed"
    assert written["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"released": 0.0}
    assert b"5 of 40 items are faulty" in (tmp_path / "kfp" / "a" / "html").read_bytes()


@pytest.mark.slow
def test_a_stopped_task_leaves_what_the_next_attempt_goes_on_from(tmp_path: Path) -> None:
    builtin_data.generate(tmp_path / "data", count=40, seed=3)
    cluster = Cluster(tmp_path / "data", tmp_path / "output")
    cluster.prepare("run-1", *NODES[: NODES.index("Trainer")])
    working = cluster.output_root / "artifacts/Trainer/.system/stateful_working_dir"
    many = "train.epochs=500"
    training = cluster.start(["run", "Trainer"], "run-1", many)
    runs = cluster.output_root / "artifacts/Trainer/model_run"
    training.wait_for(lambda: epochs_done(working) >= 1)
    (left,) = working.iterdir()
    training.terminate()
    code, last = ended(training)
    assert code == 143
    assert last == "Trainer: told to stop; another attempt goes on from here."
    done = epochs_done(working)

    # Killed outright: the node finds the same execution, and the training goes on in its folder.
    training = cluster.start(["run", "Trainer"], "run-1", many)
    training.wait_for(lambda: epochs_done(working) > done)
    training.kill()
    assert f"Going on after epoch {done} of an earlier attempt." in training.output()
    assert len(list(runs.iterdir())) == 1
    assert [each.name for each in working.iterdir()] == [left.name]
    assert cluster.artifacts("run-1").state("Trainer") == "failed"
    code, last, _ = cluster.report("run-1", tmp_path / "kfp")
    assert "Trainer was cut off; its log says why." in last

    # Other settings are other work, with a folder of its own, which goes when it is done.
    code, last = cluster.run("Trainer", "run-1", "train.epochs=1")
    assert (code, last[:17]) == (0, "Trainer: executed")
    assert [each.name for each in working.iterdir()] == [left.name]


def epochs_done(working: Path) -> int:
    """What the training engine has in its folder, if there is one."""
    states = list(working.glob("*/state.json"))
    return json.loads(states[0].read_text())["epochs"] if states else 0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.epoch=1"], "did you mean 'train.epochs'?"),
        (["train.epochs=0"], "Setting 'train.epochs' is 0 (from --set)"),
        (["tune.trials=2"], "makes tune.trials 2, but the pipeline was compiled with no Tuner;"),
        (["release.copy_to=/copies"], "but the pipeline was compiled with no Copier;"),
    ],
)
def test_bad_settings_end_at_once_with_code_2(
    overrides: list[str], sentence: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "kubeflow.entrypoint", "run", "ExampleGen", "--run-id=run-1"]
    command += [f"--data-root={tmp_path}", f"--output-root={tmp_path}", "--metadata=sqlite"]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    last = (done.stdout + done.stderr).splitlines()[-1]
    assert last.startswith("ExampleGen refused: ")
    assert sentence in last


def test_what_a_container_says_goes_through_one_pipe(small_data: Path, tmp_path: Path) -> None:
    """So that the last line stays the last one behind a traceback."""
    command = [sys.executable, "-m", "kubeflow.entrypoint", "run", "ExampleGen", "--run-id=run-1"]
    command += [f"--data-root={small_data}", f"--output-root={tmp_path}", "--metadata=sqlite"]
    command += ["--set", "beam.runner=NoRunner"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Traceback" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("ExampleGen failed: ValueError: ")


def test_missing_data_and_an_unknown_node_end_with_code_2(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", tmp_path / "output")
    code, last = cluster.run("ExampleGen", "run-1")
    assert code == 2
    assert last.startswith("ExampleGen refused: ")
    assert str(tmp_path / "data") in last
    code, last = cluster.run("Tuner", "run-1")
    assert code == 2
    assert "This image's pipeline has no node 'Tuner', only ExampleGen, " in last


def environment(**changes: str) -> dict[str, str]:
    values = {"host": "127.0.0.1", "port": "1", "database": "d", "user": "u", "password": "p"}
    return {pods.ENVIRONMENT[key]: value for key, value in {**values, **changes}.items()}


def test_what_the_secret_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs METADATA_PASSWORD in the environment"):
        metadata.connection("mysql", tmp_path, environment(password=""))
    with pytest.raises(UserError, match="METADATA_PORT is 'x'; it must be a number"):
        metadata.connection("mysql", tmp_path, environment(port="x"))


def test_a_dead_metadata_server_is_named(tmp_path: Path) -> None:
    config = metadata.connection("mysql", tmp_path, environment())
    with pytest.raises(ConnectionError, match=r"server 127\.0\.0\.1:1 cannot be reached \(Connect"):
        metadata.open_store(config)


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    try:
        server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    except Unavailable as error:
        pytest.skip(f"METADATA ON MYSQL NOT TESTED: {error}")
    yield server
    server.stop()


@pytest.mark.slow
def test_concurrent_nodes_on_a_real_server(
    mariadb: MariaDB, small_data: Path, tmp_path: Path
) -> None:
    cluster = Cluster(small_data, tmp_path / "output", **environment(**mariadb.login))
    # Both begin on an empty database, and both want to make its tables.
    pair = [cluster.start(["run", node], "run-1") for node in NODES[:2]]
    assert [ended(process)[0] for process in pair] == [0, 0]
    assert all(mariadb.login["password"] not in process.output() for process in pair)
    assert cluster.prepare("run-1", "StatisticsGen") == ["executed"]
    config = metadata.connection("mysql", tmp_path, environment(**mariadb.login))
    artifacts = RunArtifacts(config, "run-1")
    states = {node: artifacts.state(node) for node in NODES if artifacts.began(node)}
    assert states == dict.fromkeys(NODES[:3], "executed")
    # Two runs of the same work at the same time: each is answered from the cache.
    pair = [cluster.start(["run", "ExampleGen"], run) for run in ("run-2", "run-3")]
    assert [ended(process)[1][:18] for process in pair] == ["ExampleGen: cached"] * 2


@pytest.mark.slow
def test_a_wrong_password_ends_with_code_1_and_says_where_it_stands(
    mariadb: MariaDB, small_data: Path, tmp_path: Path
) -> None:
    login = environment(**{**mariadb.login, "password": "wrong-password"})
    code, last = Cluster(small_data, tmp_path / "output", **login).run("ExampleGen", "run-1")
    assert code == 1
    assert "does not let user 'segmentation' use the database 'metadata'; check the Secret" in last
    assert "wrong-password" not in last
