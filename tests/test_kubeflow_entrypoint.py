"""Tasks as the containers run them: processes of their own, tied by the metadata store alone."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_metadata
import pytest

from kubeflow import entrypoint, tasks, termination
from pipeline.core.errors import CommandError
from pipeline.data import synthetic
from tests.support.forked import Forked
from tests.support.kfp.tasks import NODES, Cluster, ended
from tests.support.runs import ROOT, Run

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")


@pytest.mark.slow
def test_a_run_of_separate_processes_ends_as_the_local_one(
    small_run: Run, small_data: Path, tmp_path: Path
) -> None:
    cluster = Cluster(small_data, tmp_path / "output")
    code, last, stage = cluster.plan("run-1")
    assert (code, stage) == (0, "data")
    assert last.endswith(": the run starts with ExampleGen (it has not run before).")
    for node in NODES:
        code, last = cluster.run(node, "run-1")
        assert code == 0, last
        expected = "done" if node in ("ReleasedData", "Champion") else "executed"
        assert last.startswith(f"{node}: {expected} in ")
    code, last, written = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert last.startswith("Report: done in ")
    assert last.endswith(": status pushed.")

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

    html = (tmp_path / "kfp" / "a" / "report").read_bytes()
    assert html == (cluster.output_root / "report.html").read_bytes()
    (metrics,) = written["artifacts"]["metrics"]["artifacts"]
    assert metrics["uri"] == "s3://bucket/metrics"
    assert metrics["metadata"]["mean_iou"] == local["metrics"]["overall"]["mean_iou"]
    assert metrics["metadata"]["released"] == 1.0

    # A run in which nothing changed needs no task but the first and the last.
    code, last, stage = cluster.plan("run-3")
    assert (code, stage) == (0, "nothing")
    assert last.endswith(": nothing has changed, so nothing has to run.")
    code, last, written = cluster.report("run-3", tmp_path / "kfp-3")
    assert (code, last.partition(": ")[2].partition(": ")[2]) == (0, "nothing has changed.")
    assert set(cluster.states()) == {"cached"}
    assert cluster.outcome["pushed_version"] == ours["pushed_version"]
    (metrics,) = written["artifacts"]["metrics"]["artifacts"]
    assert metrics["metadata"]["released"] == 0.0
    # Otherwise the plan says where to begin, and what it asked about runs in the same run.
    code, last, stage = cluster.plan("run-4", "gate.boundary_iou=0.01")
    assert (code, stage) == (0, "release")
    assert "the run starts with Evaluator (changed: gate settings)" in last
    verdict = ("Champion", "Evaluator", "Pusher")
    ends = [cluster.run(node, "run-4", "gate.boundary_iou=0.01") for node in verdict]
    assert [code for code, _ in ends] == [0, 0, 0]
    assert ends[1][1].startswith("Evaluator: executed in ")
    # What the plan has looked up is not looked up again: it could have changed since.
    assert len(executions_of(cluster, "run-4")) == len(NODES)
    code, last, stage = cluster.plan("run-5", "train.epochs=2")
    assert (code, stage) == (0, "training")
    assert "the run starts with Trainer (changed: train.epochs (4 to 2))" in last
    assert not cluster.artifacts("run-5").began("Trainer")
    planned = time.time()
    code, last = cluster.run("Trainer", "run-5", "train.epochs=2")
    assert (code, last[:17]) == (0, "Trainer: executed")
    assert cluster.artifacts("run-5").seconds("Trainer") < time.time() - planned

    # Of two runs that do the same work at once the second waits, and takes what the first found.
    rest = [
        cluster.start(["run", "ExampleGen"], run, "data.eval_share=0.2")
        for run in ("run-8", "run-9")
    ]
    lasts = sorted(ended(each)[1].split()[1] for each in rest)
    assert lasts == ["cached", "executed"]

    # The same work in another run is answered from the cache; in the same run it is done already.
    states = dict(zip(NODES, cluster.prepare("run-2", *NODES), strict=True))
    assert {states[node] for node in NODES[: NODES.index("Champion")]} == {"cached", "done"}
    assert cluster.prepare("run-1", "ExampleGen", "Trainer") == ["executed", "executed"]
    # Two trainings in all: the first, and that with other settings.
    assert len(list((cluster.output_root / "artifacts" / "Trainer" / "model").iterdir())) == 2


@pytest.mark.slow
def test_refused_data_is_exit_code_2(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "data", count=40, seed=3)
    for path in sorted((tmp_path / "data" / "images").iterdir())[:5]:
        path.write_bytes(b"no photo")
    cluster = Cluster(tmp_path / "data", tmp_path / "output")
    cluster.prepare("run-1", *NODES[: NODES.index("DataGate")])
    code, last = cluster.run("DataGate", "run-1")
    assert code == 2
    assert last.startswith("Error: DataGate failed: 5 of 40 items are quarantined, more than ")
    code, last, written = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert "status failed: 5 of 40 items are quarantined" in last
    assert cluster.outcome["error"].startswith("5 of 40 items are quarantined")
    assert cluster.outcome["components"][-1]["state"] == "failed"
    assert written["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"released": 0.0}
    assert b"5 of 40 items are quarantined" in (tmp_path / "kfp" / "a" / "report").read_bytes()


@pytest.mark.slow
def test_the_next_attempt_resumes_a_stopped_task(tmp_path: Path) -> None:
    synthetic.generate(tmp_path / "data", count=40, seed=3)
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
    assert last == "Trainer: stopped; the next attempt resumes here."
    done = epochs_done(working)

    # Killed outright: the node finds the same execution, and the training goes on in its folder.
    training = cluster.start(["run", "Trainer"], "run-1", many)
    training.wait_for(lambda: epochs_done(working) > done)
    training.kill()
    assert f"Resuming after epoch {done} of an earlier attempt." in training.output()
    assert len(list(runs.iterdir())) == 1
    assert [each.name for each in working.iterdir()] == [left.name]
    assert cluster.artifacts("run-1").state("Trainer") == "failed"
    code, last, _ = cluster.report("run-1", tmp_path / "kfp")
    assert "Trainer was interrupted; see its log." in last
    assert cluster.outcome["status"] == "failed"
    assert b"Released version" not in (tmp_path / "kfp" / "a" / "report").read_bytes()

    # Other settings are other work, with a folder of its own, which goes when it is done.
    code, last = cluster.run("Trainer", "run-1", "train.epochs=1")
    assert (code, last[:17]) == (0, "Trainer: executed")
    assert [each.name for each in working.iterdir()] == [left.name]


def executions_of(cluster: Cluster, run: str) -> list[Any]:
    store = ml_metadata.MetadataStore(cluster.connection)
    context = store.get_context_by_type_and_name("pipeline_run", run)
    executions: list[Any] = store.get_executions_by_context(context.id)
    return executions


def epochs_done(working: Path) -> int:
    """What the training engine has in its folder, if there is one."""
    states = list(working.glob("*/state.json"))
    return json.loads(states[0].read_text())["epochs"] if states else 0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.epoch=1"], "did you mean 'train.epochs'?"),
        (["train.epochs=0"], "Setting 'train.epochs' is 0 (from the run's parameter)"),
        (["tune.trials=2"], "sets tune.trials to 2, but the pipeline was compiled without Tuner;"),
        (["release.copy_to=/copies"], "but the pipeline was compiled without Copier;"),
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
    assert last.startswith("Error: ExampleGen failed: ")
    assert sentence in last


def test_a_refused_setting_is_reported_on_the_page(small_data: Path, tmp_path: Path) -> None:
    cluster = Cluster(small_data, tmp_path / "output")
    code, last, written = cluster.report("run-1", tmp_path / "kfp", "train.epoch=1")
    assert code == 0
    assert last.startswith("Report: done in ")
    sentence = "Unknown setting 'train.epoch' in the run's parameter; did you mean 'train.epochs'?"
    assert last.endswith(f": the run could not start: {sentence}.")
    assert b"did you mean" in (tmp_path / "kfp" / "a" / "report").read_bytes()
    assert written["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"released": 0.0}
    assert cluster.outcome["error"] == sentence


def test_a_plan_that_was_cut_off_is_reported(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(small_data, tmp_path / "output")

    def killed(*_: object) -> None:
        raise SystemExit(137)

    monkeypatch.setattr(tasks, "plan", killed)
    arguments = ["plan", f"--start={tmp_path / 'start'}", "--run-id=run-1", "--metadata=sqlite"]
    arguments += [f"--output-root={cluster.output_root}", f"--data-root={small_data}"]
    with pytest.raises(SystemExit):
        entrypoint.main(arguments)
    assert not (tmp_path / "start").exists()
    code, last, _ = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert ": Plan was interrupted; see its log." in last


def test_a_store_that_refuses_is_reported_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("METADATA_HOST", raising=False)
    page = tmp_path / "page"
    listed = {"report": {"artifacts": [{"name": "report", "uri": "s3://bucket/report"}]}}
    message = {"outputs": {"outputFile": str(tmp_path / "out.json"), "artifacts": listed}}
    arguments = ["report", "--run-id=run-1", "--metadata=mysql", "--data-root="]
    arguments += [f"--output-root={tmp_path / 'output'}", "--artifact", "report", str(page)]
    assert entrypoint.main([*arguments, "--executor-input", json.dumps(message)]) == 0
    assert "the run could not start: The metadata store needs" in capsys.readouterr().out
    assert "The metadata store needs" in page.read_text()


def test_images_with_different_code_are_refused(small_data: Path, tmp_path: Path) -> None:
    cluster = Cluster(small_data, tmp_path / "output")
    assert cluster.plan("run-1")[0] == 0
    cluster.artifacts("run-1").note_run_code("of another image")
    code, last = cluster.run("ExampleGen", "run-1")
    assert code == 2
    assert "differ from those in the image of task Plan" in last


def test_an_id_that_no_server_made_is_refused(small_data: Path, tmp_path: Path) -> None:
    cluster = Cluster(small_data, tmp_path / "output")
    code, last = cluster.run("ExampleGen", "{{$.pipeline_job_uuid}}")
    assert code == 2
    assert "The server did not replace the placeholder '{{$.pipeline_job_uuid}}'" in last


def test_what_a_container_says_goes_through_one_pipe(small_data: Path, tmp_path: Path) -> None:
    """So that the last line stays the last one behind a traceback."""
    command = [sys.executable, "-m", "kubeflow.entrypoint", "run", "ExampleGen", "--run-id=run-1"]
    command += [f"--data-root={small_data}", f"--output-root={tmp_path}", "--metadata=sqlite"]
    command += ["--set", "beam.runner=NoRunner"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Traceback" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Error: ExampleGen failed: ValueError: ")


def _open_to_all(arguments: Sequence[str]) -> int:
    """Runs the task as Argo's executor starts it, which keeps nobody from writing."""
    os.umask(0)
    return entrypoint.main(arguments)


def test_nobody_else_may_write_what_a_task_leaves(tmp_path: Path) -> None:
    output = tmp_path / "output"
    arguments = ["plan", "--run-id=1", "--data-root=", "--metadata=sqlite"]
    arguments += [f"--output-root={output}", f"--start={tmp_path / 'start'}"]
    code, _ = ended(Forked(_open_to_all, arguments, tmp_path / "log"))
    assert code == 0
    # A lock is taken by whoever wants to, and holds nothing.
    left = [path for path in output.rglob("*") if not path.name.endswith(".lock")]
    assert left
    assert [path for path in left if path.stat().st_mode & stat.S_IWOTH] == []


def test_missing_data_and_an_unknown_node_end_with_code_2(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", tmp_path / "output")
    code, last, stage = cluster.plan("run-1")
    assert (code, stage) == (2, "")
    sentence = f"There is no data folder {tmp_path / 'data'}."
    assert last == f"Error: Plan failed: {sentence}"
    # Why no node ran is in the report of the run.
    code, last, _ = cluster.report("run-1", tmp_path / "kfp")
    assert code == 0
    assert cluster.outcome["error"] == sentence
    code, last = cluster.run("Tuner", "run-1")
    assert code == 2
    assert "The pipeline in this image has no node 'Tuner', only ExampleGen, " in last


def _without_roots_powers(arguments: Sequence[str]) -> int:
    """Runs the task as a user to whom a folder's mode applies, as it does not to root."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2): version 3, this process
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    return entrypoint.main(arguments)


@pytest.fixture
def others_folder(tmp_path: Path) -> Path:
    """A folder whose sub-folder `volume` nobody may write in."""
    (tmp_path / "volume").mkdir(mode=0o555)
    (tmp_path / "page").mkdir()
    return tmp_path


@pytest.mark.parametrize("output_root", ["volume", "volume/output"])
def test_an_unwritable_volume_is_reported_with_the_fix(
    output_root: str, others_folder: Path
) -> None:
    arguments = ["plan", "--run-id=1", "--data-root=", "--metadata=sqlite", "--start=unused"]
    arguments += [f"--output-root={others_folder / output_root}"]
    code, last = ended(Forked(_without_roots_powers, arguments, others_folder / "log"))
    assert code == 2
    assert last.startswith("Error: Plan failed: User ")
    assert f"cannot write to the output folder {others_folder / output_root}" in last
    assert "`kubectl apply -k kubeflow/manifests/volume-owner`" in last
    assert (ROOT / "kubeflow/manifests/volume-owner/kustomization.yaml").is_file()


def test_the_report_explains_an_unwritable_volume(
    others_folder: Path,
) -> None:
    page, output = others_folder / "page" / "report", others_folder / "page" / "output.json"
    listed = {"report": {"artifacts": [{"name": "report", "uri": "s3://bucket/report"}]}}
    executor_input = {"outputs": {"outputFile": str(output), "artifacts": listed}}
    arguments = ["report", "--executor-input", json.dumps(executor_input)]
    for name in ("report", "metrics"):
        arguments += ["--artifact", name, str(page.with_name(name))]
    arguments += ["--run-id=1", "--data-root=", "--metadata=sqlite"]
    arguments += [f"--output-root={others_folder / 'volume'}"]
    code, last = ended(Forked(_without_roots_powers, arguments, others_folder / "log"))
    assert code == 0
    assert "the run could not start: User " in last
    assert "kubectl apply -k kubeflow/manifests/volume-owner" in page.read_text()
    assert json.loads(output.read_text())["artifacts"]["report"] == listed["report"] | {
        "artifacts": [{**listed["report"]["artifacts"][0], "metadata": {}}]
    }


def test_the_termination_message_says_whether_to_retry(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = tmp_path / "message"
    monkeypatch.setattr(termination, "_FILE", message)
    arguments = ["run", "ExampleGen", "--run-id=1", "--metadata=sqlite"]
    arguments += [f"--output-root={tmp_path / 'output'}", f"--data-root={small_data}"]
    message.touch()
    assert entrypoint.main([*arguments, "--set", "train.epochs=0"]) == 2
    assert message.read_text().startswith("Error: ExampleGen failed: Setting ")
    assert termination.AGAIN not in message.read_text()
    assert entrypoint.main([*arguments, "--set", "beam.runner=NoRunner"]) == 1
    assert message.read_text().startswith("Error: ExampleGen failed: ValueError: ")
    assert message.read_text().endswith(f"; {termination.AGAIN}.")

    def broken(*_: object) -> None:
        raise CommandError("Version 3 is in service and broken.")

    monkeypatch.setattr(entrypoint, "_run", broken)
    caplog.clear()
    assert entrypoint.main(arguments) == 1
    assert message.read_text() == "Error: ExampleGen failed: Version 3 is in service and broken."
    assert caplog.records == []

    def killed(*_: object) -> None:
        raise SystemExit(137)  # as far as this process can tell: nothing is said any more

    monkeypatch.setattr(entrypoint, "_run", killed)
    with pytest.raises(SystemExit):
        entrypoint.main(arguments)
    assert message.read_text() == f"ExampleGen was interrupted; {termination.AGAIN}."
