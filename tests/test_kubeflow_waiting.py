"""What submit says of a run while it waits for its end."""

import pytest

from kubeflow import waiting
from tests.support.kfp.api_server import Trouble
from tests.support.kfp.fixtures import Kubeflow
from tests.support.kfp.nodes import OMITTED, Look
from tests.support.kfp.recordings import RECORDINGS

pytest_plugins = ["tests.support.kfp.fixtures"]


def lines(kubeflow: Kubeflow) -> list[str]:
    """What was said of the run, without the address."""
    return kubeflow.out.splitlines()[2:]


def test_components_are_printed_as_they_start_and_end(kubeflow: Kubeflow) -> None:
    done = {"ExampleGen": Look("SUCCEEDED", seconds=12)}
    kubeflow.server.script = ["PENDING", "RUNNING", "RUNNING", "RUNNING", "SUCCEEDED"]
    kubeflow.server.task_script = [
        {},
        {"ExampleGen": Look("PENDING")},
        {**done, "Trainer": Look("RUNNING")},
        {**done, "Trainer": Look("RUNNING", attempts=2)},
        {
            **done,
            "Trainer": Look("SUCCEEDED", attempts=2),
            "Pusher": Look("SKIPPED"),
            "Report": Look("SUCCEEDED", seconds=95),
        },
    ]
    assert kubeflow.submit() == 0
    *said, last = lines(kubeflow)
    assert said == [
        "> ExampleGen         running",
        "+ ExampleGen         succeeded     12 s",
        "> Trainer            running",
        "> Trainer            running   (attempt 2)",
        "+ Trainer            succeeded     90 s (attempt 2)",
        "+ Report             succeeded     95 s",
        "= Pusher             skipped",
    ]
    assert last.startswith("Run succeeded after ")


LOG = """\
time=2026-11-26T08:51:28.337Z level=INFO msg="capturing logs" argo=true
I1126 08:51:28.465606      16 main.go:139] Setting log level to: '1'
2026-11-26 08:52:32,781 something before
{line}
time=2026-11-26T08:52:36.464Z level=INFO msg="sub-process exited" argo=true error="exit status 1"
F1126 08:52:36.465606      16 main.go:96] failed to execute component: exit status 1
Error: exit status 1
"""


@pytest.mark.parametrize("place", ["api", "page"])
@pytest.mark.parametrize(
    "line",
    [
        "Trainer failed: out of memory.",
        "Error: Trainer failed: setting train.epochs is 0; it must be at least 1.",
        "Trainer failed: ValueError: no.\nsomething that a library says when the process ends",
        "No space left on the disk that holds /mnt/segmentation; free some space and try again.",
    ],
)
def test_a_failed_component_is_exit_code_1_with_reason_and_log(
    kubeflow: Kubeflow, place: str, line: str
) -> None:
    kubeflow.server.script = ["RUNNING", "FAILED"]
    kubeflow.server.logs_at = place
    kubeflow.server.logs = {"Trainer": LOG.format(line=line)}
    looks = {"ExampleGen": Look("SUCCEEDED", seconds=5), "Trainer": Look("FAILED")}
    kubeflow.server.task_script = [
        looks,
        {**looks, "Pusher": Look(OMITTED), "Report": Look("SUCCEEDED")},
    ]
    assert kubeflow.submit() == 1
    _, trainer, log, _, last = lines(kubeflow)
    assert trainer == f"x Trainer            failed        90 s: {line.splitlines()[0]}"
    (pod,) = [pod for pod, name in kubeflow.server.pods.items() if name == "Trainer"]
    assert log == f"  its log: kubectl logs -n kubeflow {pod} -c main"
    assert last.startswith("Run failed after ")
    assert last.endswith(" s: Trainer failed")


def test_a_log_that_ends_in_the_middle_gives_its_last_line(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["FAILED"]
    kubeflow.server.logs = {"Trainer": (RECORDINGS / "trainer-killed.log").read_text()}
    kubeflow.server.task_script = [{"Trainer": Look("FAILED")}]
    assert kubeflow.submit() == 1
    assert ": interrupted; its log ends with '" in lines(kubeflow)[0]
    assert lines(kubeflow)[0].endswith(
        "epoch 2/12  loss 0.745  val_loss 1.335  val_accuracy 0.707  "
        "val_mean_iou 0.414  1 s  0:08 left'"
    )


def test_the_first_failure_is_reported_first(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["FAILED"]
    kubeflow.server.task_script = [
        {
            "ExampleGen": Look("FAILED", seconds=80),
            "Trainer": Look("FAILED", seconds=70),
            "Report": Look("FAILED"),
        }
    ]
    assert kubeflow.submit() == 1
    failed = [line.split()[1] for line in lines(kubeflow) if line.startswith("x ")]
    assert failed == ["Trainer", "ExampleGen", "Report"]
    assert lines(kubeflow)[-1].endswith("Trainer and ExampleGen and Report failed")


def test_without_a_log_the_kubectl_command_is_shown(kubeflow: Kubeflow) -> None:
    kubeflow.server.tag = "2.5.0"
    kubeflow.server.multi_user = True
    kubeflow.server.logs_at = "none"
    kubeflow.server.script = ["FAILED"]
    kubeflow.server.task_script = [{"Trainer": Look("FAILED")}]
    assert kubeflow.submit("--namespace", "ada") == 1
    (run_id,) = kubeflow.server.runs
    trainer, log, _ = lines(kubeflow)
    assert trainer == "x Trainer            failed        90 s"
    # Before 2.14, pods had other names.
    labels = f"-l pipeline/runid={run_id} --prefix"
    assert log == f"  its log: kubectl logs -n ada {labels} -c main"


def test_a_run_that_fails_before_any_component_says_how_to_look(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["FAILED"]
    assert kubeflow.submit() == 1
    (run_id,) = kubeflow.server.runs
    command = f"kubectl get pods -n kubeflow -l pipeline/runid={run_id}"
    assert lines(kubeflow)[-1].endswith(f"no component failed; see {command}")


def test_a_component_whose_driver_failed_has_failed(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["FAILED"]
    kubeflow.server.task_script = [{"Trainer": Look("DRIVER FAILED"), "Report": Look("SUCCEEDED")}]
    assert kubeflow.submit() == 1
    trainer, log, *_ = lines(kubeflow)
    assert trainer.split() == ["x", "Trainer", "failed"]
    assert "-system-container-driver-" in log
    assert lines(kubeflow)[-1].endswith("Trainer failed")


@pytest.mark.parametrize(
    ("script", "noted"),
    [
        (["RUNNING", "CANCELING", "FAILED"], True),  # what 2.17 does when a run is terminated
        (["RUNNING", "CANCELING", "FAILED"], False),
        (["RUNNING", "CANCELING, FAILED"], True),  # between two looks
        (["RUNNING", "CANCELED"], True),
    ],
)
def test_a_run_that_was_stopped_is_exit_code_3_and_no_failure(
    kubeflow: Kubeflow, script: list[str], noted: bool
) -> None:
    kubeflow.server.script = script
    kubeflow.server.notes_stops = noted
    looks = {"ExampleGen": Look("SUCCEEDED"), "Trainer": Look("RUNNING")}
    ended = {**looks, "Trainer": Look("FAILED"), "Report": Look("SUCCEEDED")}
    kubeflow.server.task_script = [looks] * (len(script) - 1) + [ended]
    assert kubeflow.submit() == 3
    said = lines(kubeflow)
    assert "- Trainer            stopped       90 s" in said
    assert not any(line.startswith(("x", "  its log")) for line in said)
    assert said[-1].startswith("Run stopped after ")
    assert kubeflow("status") == 0
    assert (" stopped " in kubeflow.out) == noted


def test_a_run_that_was_skipped_is_exit_code_3(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["RUNNING", "SKIPPED"]
    assert kubeflow.submit() == 3
    assert "Run skipped" in kubeflow.out


def test_a_wait_that_times_out_is_exit_code_3(kubeflow: Kubeflow) -> None:
    kubeflow.server.script = ["RUNNING"]
    assert kubeflow.submit("--timeout", "0.1") == 3
    assert "did not end within 0.1 s and is still running" in kubeflow.out


def test_a_server_that_fails_for_a_while_does_not_end_the_wait(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 503, b"<html>restarting</html>", times=3)]
    assert kubeflow.submit() == 0
    assert kubeflow.out.count("Still waiting.") == 1


def test_a_server_that_stays_away_is_exit_code_3(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_PATIENCE_S", 0.05)
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 503)]
    assert kubeflow.submit() == 3
    assert "The run may still be running" in kubeflow.out


def test_rights_that_end_while_waiting_are_exit_code_3(kubeflow: Kubeflow) -> None:
    kubeflow.server.troubles = [Trouble("GET .*/runs/", 401, b'{"message": "token expired"}')]
    assert kubeflow.submit() == 3
    assert "token expired" in kubeflow.out
