"""The whole chain on one machine, as its user sees it."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import filelock
import pytest
import tensorflow as tf

from pipeline import models
from pipeline.report import gallery
from tests.support.forked import Forked
from tests.support.runs import REAL_SAMPLE, SMALL, Run, outcome_of, run_locally
from tests.support.served import check_evaluation, check_metrics

pytestmark = pytest.mark.usefixtures("smoke_test_in_process")

COMPONENTS = [
    "ExampleGen",
    "ImportSchemaGen",
    "StatisticsGen",
    "ExampleValidator",
    "DriftValidator",
    "DataGate",
    "Transform",
    "Trainer",
    "Evaluator",
    "Pusher",
]


def test_run_releases_a_model(small_run: Run) -> None:
    outcome = small_run.outcome
    assert small_run.code == 0
    assert outcome["status"] == "pushed"
    assert small_run.states() == dict.fromkeys(COMPONENTS, "executed")
    assert outcome["pushed_version"] in small_run.versions()
    assert outcome["new_version"]
    card = (small_run.released() / "assets.extra" / "model_card.md").read_text()
    assert r"| mean\_iou | overall |" in card.partition("## Gate")[2]
    assert outcome["champion"] is None
    assert outcome["data"]["quarantined"] == []
    assert sum(outcome["data"]["splits"].values()) == 40
    assert all(count > 0 for count in outcome["data"]["splits"].values())
    assert outcome["versions"]["tfx"] in ("1.16.0", "1.21.0")
    report = (small_run.output_root / "report.html").read_text()
    assert str(outcome["pushed_version"]) in report


def test_same_run_again_is_answered_from_the_cache(fresh_run: Run) -> None:
    before = fresh_run.versions()
    again = fresh_run.again()
    assert again.code == 0
    assert set(again.states().values()) == {"cached"}
    assert again.outcome["status"] == "pushed"
    assert again.outcome["pushed_version"] == fresh_run.outcome["pushed_version"]
    assert again.versions() == before
    assert again.outcome["metrics"] == fresh_run.outcome["metrics"]
    assert not again.outcome["new_version"]


def test_another_threshold_makes_no_new_version(
    fresh_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    again = fresh_run.again("gate.pixel_accuracy=0.011")
    assert again.states()["Pusher"] == "executed"
    version = fresh_run.outcome["pushed_version"]
    assert (again.outcome["status"], again.outcome["pushed_version"]) == ("pushed", version)
    assert not again.outcome["new_version"]
    assert f"Version {version} in {again.serving_dir} stays in service" in capfd.readouterr().out


def test_outcome_stands_when_the_report_cannot_be_made(
    fresh_run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the photos are gone")

    monkeypatch.setattr(gallery, "build", fail)
    again = fresh_run.again()
    assert again.code == 1
    assert "the photos are gone" in capfd.readouterr().err
    assert again.outcome["status"] == "pushed"


@pytest.mark.usefixtures("untrained")
def test_history_lists_the_runs_newest_first(
    fresh_run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import local_runner

    refused = fresh_run.again("gate.pixel_accuracy=1", "train.seed=12")
    capfd.readouterr()
    assert local_runner.main(["--history", "--output-root", str(fresh_run.output_root)]) == 0
    _, _, _, last, before, *_ = capfd.readouterr().out.splitlines()
    mean_iou = refused.outcome["metrics"]["overall"]["mean_iou"]
    assert "not_blessed" in last
    assert f"{mean_iou:.3f}" in last
    assert f"pushed: {fresh_run.outcome['pushed_version']}" in before
    assert f" {sum(fresh_run.outcome['data']['splits'].values())} " in before
    assert local_runner.main(["--history", "--output-root", str(tmp_path / "none")]) == 2
    assert "has no runs yet" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()


def newest_verdict(output_root: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What ``--history`` says about the newest run."""
    import local_runner

    capfd.readouterr()
    assert local_runner.main(["--history", "--output-root", str(output_root)]) == 0
    _, _, _, last, *_ = capfd.readouterr().out.splitlines()
    return last.split("│")[2].strip()


def first_loss(run: Run) -> float:
    """Of the training that ran last in the output folder."""
    last = max(run.output_root.rglob("history.csv"), key=lambda path: path.stat().st_mtime)
    return float(next(csv.DictReader(last.open()))["loss"])


@pytest.mark.slow
def test_training_starts_from_the_champion_where_asked(fresh_run: Run) -> None:
    short = ("train.epochs=1", "train.seed=11")
    cold = first_loss(fresh_run.again(*short))
    champion = fresh_run.again().outcome["in_service"]
    warm = fresh_run.again("train.start_from=champion", *short)
    assert warm.outcome["training"]["started_from"] == champion
    assert first_loss(warm) < cold
    # Now its own release is the champion, but with the same data there is nothing to train.
    again = fresh_run.again("train.start_from=champion", *short)
    assert again.states()["Trainer"] == "cached"


def test_release_that_was_deleted_is_released_anew(fresh_run: Run) -> None:
    shutil.rmtree(fresh_run.output_root / "serving")
    again = fresh_run.again()
    assert again.outcome["status"] == "pushed"
    assert again.states()["Trainer"] == "cached"
    assert again.versions() == [again.outcome["pushed_version"]]
    assert again.released().is_dir()


def test_edited_schema_counts_as_a_change(
    fresh_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.orchestration import pipeline

    text = (Path(pipeline.SCHEMA_DIR) / "pets.pbtxt").read_text()
    (tmp_path / "pets.pbtxt").write_text(text.replace("min: 8", "min: 2000"))
    monkeypatch.setattr(pipeline, "SCHEMA_DIR", str(tmp_path))
    refused = fresh_run.again()
    assert refused.code == 2
    assert "does not match the schema: height" in refused.outcome["error"]


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_output_folder_that_was_moved_is_refused(
    small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_locally(small_data, tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    capfd.readouterr()
    assert run_locally(small_data, tmp_path / "after").code == 2
    assert "The output folder was moved" in capfd.readouterr().err
    (tmp_path / "after").rename(tmp_path / "before")
    back = run_locally(small_data, tmp_path / "before")
    assert set(back.states().values()) == {"cached"}


def test_built_in_model_does_not_replace_one_of_real_data(
    small_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    import local_runner

    model = next(each for each in SMALL if each.startswith("model.name="))
    arguments = ["--output-root", str(small_run.output_root), "--set", model]
    assert local_runner.main(arguments) == 2
    assert f"trained on {small_run.data_root}; use another --output-root" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("untrained")
def test_the_next_run_resumes_after_a_failed_component(
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:

        def explode(*args: object) -> None:
            raise RuntimeError("the GPU fell off\nsecond line")

        patch.setattr(models, "build", explode)
        failed = run_locally(small_data, tmp_path)
    output = capfd.readouterr()
    assert failed.code == 1
    assert failed.outcome["status"] == "failed"
    assert failed.outcome["error"] == "Trainer failed: RuntimeError: the GPU fell off."
    assert failed.states()["Trainer"] == "failed"
    assert "Evaluator" not in failed.states()
    assert "Traceback" not in output.out + output.err
    assert "the GPU fell off" in output.err
    assert "the GPU fell off" in (tmp_path / "report.html").read_text()
    assert newest_verdict(tmp_path, capfd) == "failed: Trainer"

    mended = failed.again()
    assert mended.outcome["status"] == "pushed"
    assert mended.states()["Transform"] == "cached"
    assert mended.states()["Trainer"] == "executed"


@pytest.mark.slow
def test_a_killed_run_resumes(
    small_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import local_runner

    output = tmp_path / "output"
    arguments = ["--data-root", str(small_data), "--output-root", str(output)]
    for override in (*SMALL, "train.epochs=500"):
        arguments += ["--set", override]
    process = Forked(local_runner.main, arguments, tmp_path / "log")
    process.wait_for(lambda: "epoch 1/" in process.output())
    process.terminate()  # as systemd and batch systems do
    code, said = process.wait()
    assert code == 143
    assert said.endswith("; run the same command again to resume.\n")
    assert "; run the same command" in (output / "report.html").read_text()
    process = Forked(local_runner.main, arguments, tmp_path / "log")
    process.wait_for(lambda: "Resuming after epoch" in process.output())
    assert newest_verdict(output, capfd) == "running"
    process.kill()
    assert newest_verdict(output, capfd) == "interrupted in Trainer"
    assert "The run has not finished" in (output / "report.html").read_text()
    run = run_locally(small_data, output)
    assert run.outcome["status"] == "pushed"
    assert {c: run.states()[c] for c in COMPONENTS[:7]} == dict.fromkeys(COMPONENTS[:7], "cached")


def test_second_run_on_one_output_folder_is_refused(
    fresh_run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with filelock.FileLock(fresh_run.output_root / ".lock"):
        assert fresh_run.again().code == 2
    assert "Another run is using" in capfd.readouterr().err


@pytest.mark.slow
def test_time_budget_ends_training_in_time(fresh_run: Run) -> None:
    begin = time.monotonic()
    run = fresh_run.again("train.epochs=100000", "train.max_minutes=0.1")
    assert run.code == 0
    seconds = next(c["seconds"] for c in run.outcome["components"] if c["id"] == "Trainer")
    assert seconds < 60
    assert time.monotonic() - begin < 120


@pytest.mark.slow
@pytest.mark.skipif(not REAL_SAMPLE.is_dir(), reason="the real sample is not beside the checkout")
def test_the_real_sample_is_ingested_and_two_epochs_do_not_pass_the_gate(tmp_path: Path) -> None:
    """400 real pairs, one of them an RGBA PNG named .jpg; the default gate."""
    import local_runner

    arguments = ["--data-root", str(REAL_SAMPLE), "--output-root", str(tmp_path)]
    arguments += ["--set", "train.epochs=2", "--set", "transform.image_size=64"]
    refused = outcome_of(local_runner.main(arguments), REAL_SAMPLE, tmp_path)
    assert refused.code == 0
    assert refused.outcome["status"] == "not_blessed"
    data = refused.outcome["data"]
    assert sum(data["splits"].values()) + len(data["quarantined"]) == 400
    assert data["splits"]["test"] == 198
    failed = {(row["metric"], row["slice"]) for row in refused.outcome["gate"] if not row["held"]}
    assert ("mean_iou", "overall") in failed
    assert refused.versions() == []

    # With a lax gate the same model is released, and equality holds on real photos too.
    for name in ("pixel_accuracy", "mean_iou", "class_iou"):
        arguments += ["--set", f"gate.{name}=0"]
    lax = outcome_of(local_runner.main(arguments), REAL_SAMPLE, tmp_path)
    assert lax.states()["Trainer"] == "cached"
    check_metrics(lax)
    check_evaluation(lax)
    serve = tf.saved_model.load(str(lax.released())).signatures["serving_default"]
    rgba = (REAL_SAMPLE / "images" / "Abyssinian_5.jpg").read_bytes()
    assert serve(image_bytes=tf.constant([rgba]))["mask"].shape == (1, 64, 64)
