"""How submit tells of a run: in the names of components, from answers in which only Argo's stand.

The stand-in's answers are held against those of a real server, in recordings/.
"""

import json
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeflow import answers, argo, package, waiting
from tests.support.kfp.fixtures import Kubeflow
from tests.support.kfp.nodes import OMITTED, Look, Nodes
from tests.support.kfp.stand_in import Trouble
from tests.support.runs import ROOT

pytest_plugins = ["tests.support.kfp.fixtures"]

RECORDINGS = ROOT / "tests" / "recordings"
AFTER_FIRST = [
    *("StatisticsGen", "ExampleValidator", "ReleasedData", "DriftValidator", "DataGate"),
    *("Transform", "Trainer", "Champion", "Evaluator", "Pusher"),
]
RECORDED = {
    "running": (
        "segmentation-v8n79",
        {name: Look("RUNNING") for name in ("ExampleGen", "ImportSchemaGen")},
    ),
    "failed": (
        "segmentation-gw986",
        {
            **{name: Look(OMITTED) for name in AFTER_FIRST},
            **{name: Look("FAILED") for name in ("ExampleGen", "ImportSchemaGen", "Report")},
        },
    ),
}


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDINGS / f"run-{name}.json").read_text())
    return found


def read(answer: dict[str, Any]) -> answers.Run:
    """An answer as the SDK gives it."""
    response = SimpleNamespace(data=json.dumps(answer))
    return answers.run(kfp_server_api.ApiClient().deserialize(response, "V2beta1Run"))


def steps() -> tuple[package.Step, ...]:
    return package.read(RECORDINGS / "package.yaml").spec.steps


# The stand-in against the recordings


def told(tasks: list[dict[str, Any]]) -> list[str]:
    """What the answers say of each task, ids and times aside, which differ from run to run."""
    return sorted(
        json.dumps(
            {
                "fields": sorted(task),
                "name": task["display_name"],
                "state": task.get("state"),
                "history": [each.get("state") for each in task["state_history"]],
                "children": sorted(each["pod_name"] for each in task.get("child_tasks", [])),
                "goes on": task["end_time"] == "0001-01-01T00:00:00Z",
            }
        )
        for task in tasks
    )


@pytest.mark.parametrize("name", RECORDED)
def test_the_stand_in_lists_the_tasks_that_the_real_server_listed(name: str) -> None:
    workflow, looks = RECORDED[name]
    (spec, _) = yaml.safe_load_all((RECORDINGS / "package.yaml").read_text())
    made = Nodes(spec, workflow, looks, labels=1).tasks
    assert told(made) == told(recorded(name)["run_details"]["task_details"])
    others = [Nodes(spec, workflow, looks, labels=1).tasks for _ in range(2)]
    orders = {tuple(task["display_name"] for task in tasks) for tasks in (made, *others)}
    assert len(orders) == 3  # the order is that of random ids


@pytest.mark.parametrize("state", ["RUNNING", "FAILED"])
def test_the_stand_ins_runs_have_the_fields_of_the_real_servers(
    kubeflow: Kubeflow, state: str
) -> None:
    kubeflow.server.script = [state]
    kubeflow.server.task_script = [{"ExampleGen": Look(state)}]
    kubeflow.submit("--no-wait", "--service-account", "trainer")
    (run_id,) = kubeflow.server.runs
    status, body = kubeflow.server.answer("GET", f"/apis/v2beta1/runs/{run_id}", {}, b"")
    made, real = json.loads(body), recorded(state.lower())
    assert status == 200
    assert set(made) - {"runtime_config"} == set(
        real
    )  # ours had no parameters when it was recorded
    assert (made["finished_at"] == real["finished_at"]) == (state == "RUNNING")
    assert {type(made[key]) for key in real} == {type(value) for value in real.values()}


# Components among the nodes


def test_the_components_of_a_recorded_run_that_goes_on() -> None:
    run = read(recorded("running"))
    assert (run.state, run.seconds) == ("RUNNING", None)
    found = argo.components(run, steps())
    assert [(each.name, each.state) for each in found] == [
        ("ExampleGen", "RUNNING"),
        ("ImportSchemaGen", "RUNNING"),
    ]
    assert {(each.seconds, each.attempts) for each in found} == {(None, 1)}


def test_the_components_of_a_recorded_run_that_failed() -> None:
    run = read(recorded("failed"))
    assert (run.state, run.seconds) == ("FAILED", 910)
    found = argo.components(run, steps())
    assert [(each.name, each.state, each.seconds) for each in found] == [
        ("ExampleGen", "FAILED", 21),
        ("ImportSchemaGen", "FAILED", 21),
        ("Report", "FAILED", 21),
    ]


def test_a_pod_has_the_name_that_a_recorded_one_has() -> None:
    (spec, _) = yaml.safe_load_all((RECORDINGS / "package.yaml").read_text())
    made = Nodes(spec, "segmentation-v8n79", {"Trainer": Look("RUNNING")}, labels=1)
    run = read({**recorded("running"), "run_details": {"task_details": made.tasks}})
    (trainer,) = argo.components(run, steps())
    impl = "metadata-0-1-retry-system-container-impl"
    assert trainer.pod == f"segmentation-v8n79-{impl}-2687495036"
    assert list(made.pods) == [trainer.pod]


@given(
    st.dictionaries(
        st.sampled_from([*AFTER_FIRST, "ImportSchemaGen", "Report"]),
        st.builds(
            Look,
            st.sampled_from(["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "SKIPPED", OMITTED]),
            st.integers(1, 3),
        ),
    )
)
def test_whatever_has_begun_is_found_and_nothing_else(looks: dict[str, Look]) -> None:
    (spec, _) = yaml.safe_load_all((RECORDINGS / "package.yaml").read_text())
    looks = {"ExampleGen": Look("SUCCEEDED"), **looks}  # else the sub-graph has not begun
    nodes = Nodes(spec, "segmentation-abcde", looks, labels=1)
    run = read({**recorded("running"), "run_details": {"task_details": nodes.tasks}})
    found = argo.components(run, steps())
    expected = {
        name: ("RUNNING" if look.state == "PENDING" else look.state, look.attempts)
        for name, look in looks.items()
        if look.state != OMITTED
    }
    assert [each.name for each in found] == [s.name for s in steps() if s.name in expected]
    for each in found:
        state, attempts = expected[each.name]
        assert each.state == state
        if state != "SKIPPED":
            assert each.attempts == attempts
            assert each.pod == [pod for pod, name in nodes.pods.items() if name == each.name][-1]
            assert (each.seconds is None) == (state == "RUNNING")


def test_steps_are_in_the_order_of_the_graph_whatever_the_sub_graphs() -> None:
    names = [step.name for step in steps()]
    assert names[:2] == ["ExampleGen", "ImportSchemaGen"]
    assert names.index("Transform") < names.index("Trainer") < names.index("Evaluator")
    assert names[-2:] == ["Pusher", "Report"]


def test_every_component_of_our_pipeline_is_found() -> None:
    """Whatever sub-graphs and conditions its compiled form has."""
    golden = ROOT / "tests" / "golden" / "pipeline.yaml"
    spec, platform = yaml.safe_load_all(golden.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    (labels,) = {len(each["podMetadata"]["labels"]) for each in executors}
    steps = package.read(golden).spec.steps
    looks = {step.name: Look("SUCCEEDED") for step in steps}
    assert len(steps) == len(executors)
    nodes = Nodes(spec, "segmentation-abcde", looks, labels)
    run = read({**recorded("failed"), "run_details": {"task_details": nodes.tasks}})
    found = argo.components(run, steps)
    assert [each.name for each in found] == list(looks)
    assert {nodes.pods[str(each.pod)] for each in found} == set(looks)
    assert {each.state for each in found} == {"SUCCEEDED"}


def graph(*names: str) -> dict[str, Any]:
    """Conditional sub-graphs, each with a component Trainer."""
    trainer = {"componentRef": {"name": "comp-trainer"}, "taskInfo": {"name": "Trainer"}}
    parts = {name: {"componentRef": {"name": f"comp-{name}"}} for name in names}
    return {
        "pipelineInfo": {"name": "segmentation"},
        "root": {"dag": {"tasks": parts}},
        "components": {
            "comp-trainer": {"executorLabel": "exec-trainer"},
            **{f"comp-{each}": {"dag": {"tasks": {f"t-{each}": trainer}}} for each in names},
        },
    }


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"if": "SKIPPED", "else": "SKIPPED"}, ["SKIPPED"]),
        ({"if": "SKIPPED", "else": "RUNNING"}, ["RUNNING"]),
        ({"if": "SUCCEEDED", "else": "SKIPPED"}, ["SUCCEEDED"]),
        ({"if": "SKIPPED"}, []),  # the other may still run
        ({}, []),
    ],
)
def test_a_component_in_several_sub_graphs_is_one(
    states: dict[str, str], expected: list[str]
) -> None:
    spec = package.read_spec(graph("if", "else"))
    assert spec is not None
    assert [step.path for step in spec.steps] == [("if", "t-if"), ("else", "t-else")]
    tasks = []
    for branch, state in states.items():
        nodes = Nodes(graph(branch), "segmentation-abcde", {"Trainer": Look(state)})
        tasks += nodes.tasks
    run = read({**recorded("running"), "run_details": {"task_details": tasks}})
    assert [each.state for each in argo.components(run, spec.steps)] == expected


def test_where_argo_retries_nothing_by_itself_components_are_found_all_the_same() -> None:
    """Servers before 2.17 set no retries for all nodes, so that names have fewer parts."""
    workflow, looks = "segmentation-abcde", {"Trainer": Look("SUCCEEDED")}
    names = ["root", "root.if", "root.if.t-if", "root.if.t-if.executor"]
    ids = [Nodes.id(workflow, f"{workflow}.{name}") for name in names]
    parts = [workflow, *(name.rpartition(".")[2] for name in names)]
    tasks = [
        {
            "display_name": part,
            "state": "SUCCEEDED",
            "start_time": "2026-11-24T01:00:00Z",
            "end_time": "2026-11-24T01:00:07Z",
            "child_tasks": [{"pod_name": child}],
        }
        for part, child in zip(parts, ids, strict=False)
    ]
    run = read({**recorded("running"), "run_details": {"task_details": tasks}})
    spec = package.read_spec(graph("if"))
    assert spec is not None
    (trainer,) = argo.components(run, spec.steps)
    assert (trainer.name, trainer.state, trainer.seconds) == ("Trainer", looks["Trainer"].state, 7)


# What submit says of a run


def lines(kubeflow: Kubeflow) -> list[str]:
    """What was said of the run, without the address."""
    return kubeflow.out.splitlines()[2:]


def test_components_are_told_as_they_start_and_end(kubeflow: Kubeflow) -> None:
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
        "Trainer failed: there was not enough memory.",
        "Error: Trainer refused: setting train.epochs is 0; it must be at least 1.",
        "Trainer failed: ValueError: no.\nsomething that a library says when the process ends",
        "No space is left on the disk of /mnt/segmentation; make room, and start again.",
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
    assert ": it was cut off; its log ends with '" in lines(kubeflow)[0]
    assert lines(kubeflow)[0].endswith(
        "epoch 2/12  loss 0.745  val_loss 1.335  val_accuracy 0.707  "
        "val_mean_iou 0.414  1 s  0:08 left'"
    )


def test_what_failed_first_is_said_first(kubeflow: Kubeflow) -> None:
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


def test_without_a_log_the_command_that_shows_it_is_said(kubeflow: Kubeflow) -> None:
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
