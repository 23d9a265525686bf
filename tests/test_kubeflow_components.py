"""The components of a run, found among Argo's nodes.

The stand-in's answers are held against those of a real server, in recordings/."""

import json
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeflow import answers, argo, package
from tests.support.kfp.fixtures import Kubeflow
from tests.support.kfp.nodes import OMITTED, Look, Nodes
from tests.support.kfp.recordings import AFTER_FIRST, RECORDED, RECORDINGS, recorded
from tests.support.runs import ROOT


def read(answer: dict[str, Any]) -> answers.Run:
    """An answer as the SDK gives it."""
    response = SimpleNamespace(data=json.dumps(answer))
    return answers.run(kfp_server_api.ApiClient().deserialize(response, "V2beta1Run"))


def steps() -> tuple[package.Step, ...]:
    return package.read(RECORDINGS / "package.yaml").spec.steps


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


def test_components_of_a_recorded_running_run() -> None:
    run = read(recorded("running"))
    assert (run.state, run.seconds) == ("RUNNING", None)
    found = argo.components(run, steps())
    assert [(each.name, each.state) for each in found] == [
        ("ExampleGen", "RUNNING"),
        ("ImportSchemaGen", "RUNNING"),
    ]
    assert {(each.seconds, each.attempts) for each in found} == {(None, 1)}


def test_components_of_a_recorded_failed_run() -> None:
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
def test_exactly_the_begun_components_are_found(looks: dict[str, Look]) -> None:
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


def test_steps_keep_the_order_of_the_graph() -> None:
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


def test_components_are_found_without_argo_retries() -> None:
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
