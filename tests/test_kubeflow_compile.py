"""The compiled pipeline: its graph, run form and pods, read back with kfp's own loader."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import kfp
import pytest
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import form, settings
from pipeline.core.errors import UserError
from tests.support.kfp.compiled import Compiled, admits, compiled
from tests.support.runs import ROOT

pytest_plugins = ["tests.support.kfp.compiled"]

GOLDEN = ROOT / "tests" / "golden" / "pipeline.yaml"
CURRENT_KFP = "2.16.1"  # each kfp writes other YAML; the golden file holds for the current stack's
HOW = (
    ".ci/debian13.sh sh -c 'make setup >&2 && .venv/bin/python -m kubeflow compile "
    "--config kubeflow/configs/gke.yaml --output p.yaml >&2 && cat p.yaml' "
    "> tests/golden/pipeline.yaml"
)


def test_the_golden_file_holds(example: Compiled) -> None:
    if kfp.__version__ != CURRENT_KFP:
        pytest.skip(f"GOLDEN FILE NOT COMPARED: it is kfp {CURRENT_KFP}'s, the current stack's")
    assert example.text == GOLDEN.read_text(), f"if the change is wanted: {HOW}"


def test_compiling_again_gives_the_same_bytes(example: Compiled) -> None:
    assert compiled().text == example.text


def test_it_names_no_place_on_this_machine(example: Compiled) -> None:
    for place in (str(ROOT), str(Path.home()), sys.prefix):
        assert place not in example.text


def test_kfp_loads_it_again(example: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(example.text)
    loaded = components.load_component_from_file(str(path))
    assert loaded.name == "segmentation"
    assert loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors["exec-trainer"]
    spec = json_format.ParseDict(example.spec, pipeline_spec_pb2.PipelineSpec())
    assert spec.schema_version == "2.1.0"


def test_every_node_is_a_task_after_those_it_depends_on(example: Compiled) -> None:
    """By the shortest list of dependencies: those that follow from others clutter the page."""
    assert example.upstream() == {
        "ExampleGen": set(),
        "ImportSchemaGen": set(),
        "StatisticsGen": {"ExampleGen", "ImportSchemaGen"},
        "ExampleValidator": {"StatisticsGen"},
        "ReleasedData": {"StatisticsGen"},
        "DriftValidator": {"ReleasedData"},
        "DataGate": {"ExampleValidator", "DriftValidator"},
        "Transform": {"DataGate"},
        "Trainer": {"Transform"},
        "Champion": {"Trainer"},
        "Evaluator": {"Champion"},
        "Pusher": {"Evaluator"},
    }


def test_a_run_begins_where_there_is_work(example: Compiled) -> None:
    """Plan decides; each stage that it may name has a part with all that follows."""
    conditions = {
        key: part["triggerPolicy"]["condition"].partition(" == ")[2]
        for key, part in example.parts.items()
        if key != "plan"
    }
    assert conditions == {
        "from-data-to-release": "'data'",
        "from-training-to-release": "'training'",
        "from-verdict-to-release": "'release'",
    }
    assert {tuple(example.parts[key]["dependentTasks"]) for key in conditions} == {("plan",)}
    training = example.upstream("from-training-to-release")
    assert set(training) == {"Trainer", "Champion", "Evaluator", "Pusher"}
    assert training["Trainer"] == set()
    assert set(example.upstream("from-verdict-to-release")) == {"Champion", "Evaluator", "Pusher"}
    # No GPU is asked for before it is known that something has to be trained.
    assert "accelerator" not in example.executor("plan")["resources"]
    copying = compiled("release.copy_to=gs://bucket/models")
    assert set(copying.upstream("copy-of-the-release")) == {"Copier"}


def test_parts_and_tasks_have_names_for_people(example: Compiled) -> None:
    assert set(example.spec["root"]["dag"]["tasks"]) == {"train-and-release", "report"}
    assert "exit-handler-1" not in example.text
    assert "condition-" not in example.text


def test_grouped_neighbours_share_a_task() -> None:
    grouped = compiled("tasks=grouped", "components.Transform.memory=9Gi")
    assert grouped.upstream() == {
        "ExampleGenToTransform": set(),
        "Trainer": {"ExampleGenToTransform"},
        "ChampionToPusher": {"Trainer"},
    }
    arguments = grouped.executor("example-gen-to-transform")["args"]
    assert arguments[:3] == ["run", "ExampleGen", "ImportSchemaGen"]
    assert grouped.executor("example-gen-to-transform")["resources"]["memoryLimit"] > 9
    infra = compiled("tasks=grouped", "release.infra_validation=kubernetes")
    assert list(infra.upstream("from-verdict-to-release")) == [
        "ChampionToEvaluator",
        "InfraValidator",
        "Pusher",
    ]
    apart = compiled("tasks=grouped", "components.Transform.pool=a100")
    assert {"ExampleGenToDataGate", "Transform"} <= set(apart.upstream())


def test_no_placeholder_of_a_run_is_left_to_a_container(example: Compiled) -> None:
    """The server's driver replaces them in a task's inputs alone; kfp.local everywhere."""
    executors = example.spec["deploymentSpec"]["executors"]
    assert len(executors) > 12
    assert "{{$.pipeline_" not in json.dumps(executors)
    parts = ("train-and-release", *(key for key in example.parts if key != "plan"))
    tasks = [task for part in parts for task in example.dag(part).values()]
    tasks.append(example.spec["root"]["dag"]["tasks"]["report"])
    for task in tasks:
        if "retryPolicy" in task:
            given = task["inputs"]["parameters"]["run_id"]["runtimeValue"]["constant"]
            assert given == "{{$.pipeline_job_uuid}}"


def test_a_tuner_is_there_where_it_is_asked_for() -> None:
    asked = compiled("tune.trials=3")
    upstream = asked.upstream()
    assert upstream["Tuner"] == {"Transform"}
    assert upstream["Trainer"] == {"Tuner"}
    assert len(upstream) == 13
    assert set(asked.upstream("from-training-to-release")) >= {"Tuner", "Trainer"}
    assert asked.executor("tuner")["image"] == "{{$.inputs.parameters['image_gpu']}}"
    pinned = {"tune.trials": 3}
    form.check_nodes(pinned, settings.load([], ["tune.trials=9"]))
    with pytest.raises(UserError, match=r"tune\.trials to 0, but .* compiled with Tuner"):
        form.check_nodes(pinned, settings.load())


def test_a_task_copies_the_release_where_it_is_asked_for() -> None:
    asked = compiled("release.copy_to=gs://bucket/models")
    assert asked.upstream()["Copier"] == {"Pusher"}
    assert '"release.copy_to": "gs://bucket/models"' in " ".join(asked.executor("copier")["args"])
    pinned = {"release.copy_to": "gs://bucket/models"}
    form.check_nodes(pinned, settings.load([], ["release.copy_to=gs://bucket/others"]))
    with pytest.raises(UserError, match=r"copy_to to None, but .* compiled with Copier"):
        form.check_nodes(pinned, settings.load())


def test_infra_validation_adds_a_task(example: Compiled) -> None:
    asked = compiled("release.infra_validation=kubernetes", "release.infra_image=r.example/s:1")
    upstream = asked.upstream()
    assert upstream["InfraValidator"] == {"Evaluator"}
    assert upstream["Pusher"] == {"InfraValidator"}
    arguments = " ".join(asked.executor("infra-validator")["args"])
    assert '"release.infra_image": "r.example/s:1"' in arguments
    # Of the two variables that TFX reads, KFP_POD_NAME comes from the server.
    fields = {"name": "KFP_NAMESPACE", "fieldPath": "metadata.namespace"}
    assert asked.pod("infra-validator")["fieldPathAsEnv"] == [fields]
    assert "fieldPathAsEnv" not in asked.pod("pusher")
    assert "infra" not in example.text
    compiled("components.InfraValidator.memory=2Gi")  # whether or not it is there

    pinned = {"release.infra_validation": "kubernetes"}
    form.check_nodes(pinned, settings.load([], ["release.infra_validation=kubernetes"]))
    with pytest.raises(UserError, match=r"infra_validation to off, .* compiled with InfraValidat"):
        form.check_nodes(pinned, settings.load())
    with pytest.raises(UserError, match=r"to kubernetes, but .* compiled without InfraValidator"):
        form.check_nodes({}, settings.load([], ["release.infra_validation=kubernetes"]))


def test_the_report_task_always_runs_last(example: Compiled) -> None:
    report = example.spec["root"]["dag"]["tasks"]["report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert report["dependentTasks"] == ["train-and-release"]


def test_tasks_output_artifacts_of_kubeflow_types(example: Compiled) -> None:
    found = {
        name.removeprefix("comp-"): {
            key: each["artifactType"]["schemaTitle"]
            for key, each in component["outputDefinitions"]["artifacts"].items()
        }
        for name, component in example.spec["components"].items()
        if "artifacts" in component.get("outputDefinitions", {})
    }
    assert found["example-gen"] == {"examples": "system.Dataset"}
    assert found["transform"] == {"transformed_examples": "system.Dataset"}
    assert found["trainer"] == {"model": "system.Model"}
    assert found["evaluator"] == {
        "metrics": "system.Metrics",
        "confusion_matrix": "system.ClassificationMetrics",
    }
    assert found["pusher"] == {"release": "system.Model"}
    assert found["report"] == {"report": "system.HTML", "metrics": "system.Metrics"}


def test_kfp_caches_nothing_and_tries_again_after_a_pause(example: Compiled) -> None:
    tasks = [*example.tasks.values(), example.spec["root"]["dag"]["tasks"]["report"]]
    for task in tasks:
        assert not task["cachingOptions"].get("enableCache")
    policy = example.tasks["transform"]["retryPolicy"]
    assert (policy["maxRetryCount"], policy["backoffDuration"]) == (2, "60s")
    assert policy["backoffFactor"] == 1.0
    assert example.tasks["trainer"]["retryPolicy"]["maxRetryCount"] == 8
    assert not example.tasks["data-gate"]["retryPolicy"].get("maxRetryCount")


def test_every_attempt_has_its_whole_time(example: Compiled) -> None:
    """KFP's longest pause is Argo's time for all attempts, from the begin of the first."""
    chosen = ("components.Trainer.max_minutes=600", "retries.wait_minutes=30")
    policy = compiled(*chosen).tasks["trainer"]["retryPolicy"]
    assert policy["backoffMaxDuration"] == f"{9 * (600 + 30) * 60 + 8 * 60}s"
    # Nodes that share a task have the sum of their times, in each of its attempts.
    sums = compiled("tasks=grouped", "retries.count=1", "retries.wait_minutes=0")
    minutes = sum(
        int(example.pod(each)["activeDeadlineSeconds"]) // 60
        for each in example.tasks
        if each not in ("trainer", "champion", "evaluator", "pusher")
    )
    joined = sums.tasks["example-gen-to-transform"]["retryPolicy"]
    assert joined["backoffMaxDuration"] == f"{2 * minutes * 60 + 60}s"
    assert sums.pod("example-gen-to-transform")["activeDeadlineSeconds"] == str(minutes * 60)


def test_every_part_has_the_same_tasks_with_the_same_needs(example: Compiled) -> None:
    for part in ("from-training-to-release", "from-verdict-to-release"):
        for key, task in example.dag(part).items():
            first = key.rpartition("-")[0]
            assert task["taskInfo"] == example.tasks[first]["taskInfo"]
            assert task["retryPolicy"] == example.tasks[first]["retryPolicy"]
            assert example.executor(key) == example.executor(first)
            assert example.pod(key) == example.pod(first)
    assert admits(example.pod("plan"), {})
    gpu = {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-spot": "true"}
    assert not admits(example.pod("plan"), gpu)


def test_the_run_form_has_defaults_and_help(example: Compiled) -> None:
    fields = example.spec["root"]["inputDefinitions"]["parameters"]
    assert all(field["description"] for field in fields.values())
    assert all(field["isOptional"] for field in fields.values())
    assert fields["train_epochs"]["defaultValue"] == 50
    assert fields["train_epochs"]["parameterType"] == "NUMBER_INTEGER"
    assert fields["gate_mean_iou"]["description"] == "gate.mean_iou: minimum mean IoU."
    assert fields["data_root"]["defaultValue"] == "/mnt/segmentation/data"
    assert fields["image_gpu"]["defaultValue"].endswith(":0.2.0-gpu")
    # The page shows the names alone, sorted.
    assert sorted(fields) == [
        *("data_root", "gate_class_iou", "gate_max_drop", "gate_mean_iou", "gate_pixel_accuracy"),
        *("image_cpu", "image_gpu", "more_settings", "train_epochs"),
    ]


def test_settings_are_the_defaults_of_the_form() -> None:
    fields = compiled("train.epochs=7", "image.cpu=r.example/a:2").spec["root"]["inputDefinitions"]
    assert fields["parameters"]["train_epochs"]["defaultValue"] == 7
    assert fields["parameters"]["image_cpu"]["defaultValue"] == "r.example/a:2"
