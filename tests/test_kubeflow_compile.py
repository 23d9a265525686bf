"""The compiled pipeline: its graph, run form and pods, read back with kfp's own loader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kfp
import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import __main__ as command
from kubeflow import compiler, form, pods, settings
from pipeline.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden" / "pipeline.yaml"
CURRENT_KFP = "2.16.1"  # each kfp writes other YAML; the golden file holds for the current stack's
HOW = (
    ".ci/debian13.sh sh -c 'make setup >&2 && .venv/bin/python -m kubeflow compile "
    "--config kubeflow/configs/gke.yaml --output p.yaml >&2 && cat p.yaml' "
    "> tests/golden/pipeline.yaml"
)


class Compiled:
    """A compiled pipeline, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spec, self.platform = list(yaml.safe_load_all(text))
        self.parts = self.dag("train-and-release")
        self.tasks = self.dag("from-data-to-release")

    def dag(self, part: str) -> dict[str, Any]:
        """The tasks of a part of the graph, by key."""
        return self.spec["components"][f"comp-{part}"]["dag"]["tasks"]

    def executor(self, task: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]

    def pod(self, task: str) -> dict[str, Any]:
        executors = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return executors[f"exec-{task}"]

    def upstream(self, part: str = "from-data-to-release") -> dict[str, set[str]]:
        """What each task waits for, by the names that people read."""
        names = {key: task["taskInfo"]["name"] for key, task in self.dag(part).items()}
        return {
            names[key]: {names[each] for each in task.get("dependentTasks", [])}
            for key, task in self.dag(part).items()
        }


def compiled(*overrides: str) -> Compiled:
    chosen = settings.load([settings.EXAMPLE_CONFIG], overrides)
    return Compiled(compiler.compile_pipeline(chosen))


@pytest.fixture(scope="module")
def example() -> Compiled:
    return compiled()


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


def test_a_model_server_tries_the_candidate_where_it_is_asked_for(example: Compiled) -> None:
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
    with pytest.raises(UserError, match=r"kubernetes, but .* compiled with no InfraValidator"):
        form.check_nodes({}, settings.load([], ["release.infra_validation=kubernetes"]))


def test_the_report_comes_last_whatever_happened(example: Compiled) -> None:
    report = example.spec["root"]["dag"]["tasks"]["report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert report["dependentTasks"] == ["train-and-release"]


def test_tasks_hand_artifacts_of_the_servers_own_types_to_the_page(example: Compiled) -> None:
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


def test_every_attempt_has_its_whole_time() -> None:
    """KFP's longest pause is Argo's time for all attempts, from the begin of the first."""
    chosen = ("components.Trainer.max_minutes=600", "retries.wait_minutes=30")
    policy = compiled(*chosen).tasks["trainer"]["retryPolicy"]
    assert policy["backoffMaxDuration"] == f"{9 * (600 + 30) * 60 + 8 * 60}s"
    # Nodes that share a task have the sum of their times, in each of its attempts.
    sums = compiled("tasks=grouped", "retries.count=1", "retries.wait_minutes=0")
    minutes = sum(
        int(compiled().pod(each)["activeDeadlineSeconds"]) // 60
        for each in compiled().tasks
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


def test_only_tasks_on_accelerators_take_the_gpu_image(example: Compiled) -> None:
    assert example.executor("trainer")["image"] == "{{$.inputs.parameters['image_gpu']}}"
    for task in {*example.tasks, "report"} - {"trainer"}:
        assert example.executor(task)["image"] == "{{$.inputs.parameters['image_cpu']}}"
        assert "accelerator" not in example.executor(task)["resources"]


def test_resources_and_time_limits(example: Compiled) -> None:
    resources = example.executor("trainer")["resources"]
    assert resources["accelerator"]["type"] == "nvidia.com/gpu"
    assert int(resources["accelerator"]["count"]) == 1
    assert resources["cpuRequest"] == 4.0
    assert "cpuLimit" not in resources
    assert resources["memoryRequest"] == resources["memoryLimit"] == 12 * 2**30 / 1e9
    assert example.pod("trainer")["activeDeadlineSeconds"] == str(720 * 60)
    variables = {
        task: {v["name"]: v["value"] for v in example.executor(task)["env"]}
        for task in ("trainer", "transform")
    }
    assert variables["trainer"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert "CUDA_VISIBLE_DEVICES" not in variables["trainer"]
    # Else TensorFlow misses the GPU, in red lines.
    assert variables["transform"]["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_pool_gives_selector_and_tolerations(example: Compiled) -> None:
    pod = example.pod("trainer")
    assert pod["nodeSelector"]["labels"]["cloud.google.com/gke-accelerator"] == "nvidia-l4"
    assert {
        "key": "nvidia.com/gpu",
        "operator": "Equal",
        "value": "present",
        "effect": "NoSchedule",
    } in pod["tolerations"]
    assert "nodeAffinity" not in pod
    other = compiled("components.Trainer.pool=a100").pod("trainer")
    assert other["nodeSelector"]["labels"] == {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-a100"
    }


def admits(pod: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether the pod's affinity lets it onto a node, as Kubernetes' scheduler reads it."""
    return any(
        all(
            e["operator"] == "NotIn" and labels.get(e["key"]) not in e["values"]
            for e in term["matchExpressions"]
        )
        for term in pod["nodeAffinity"]
    )


def test_tasks_without_a_pool_keep_off_accelerated_nodes_tainted_or_not(example: Compiled) -> None:
    accelerator, spot = "cloud.google.com/gke-accelerator", "cloud.google.com/gke-spot"
    for task in {*example.tasks, "report"} - {"trainer"}:
        pod = example.pod(task)
        assert not admits(pod, {accelerator: "nvidia-l4", spot: "true"})
        assert not admits(pod, {accelerator: "nvidia-tesla-a100"})
        assert not admits(pod, {accelerator: "nvidia-tesla-a100", spot: "true"})
        assert admits(pod, {})
        assert admits(pod, {spot: "true"})
        assert "tolerations" not in pod


def test_every_pod_gets_volume_scratch_space_and_the_secret(example: Compiled) -> None:
    for task in {*example.tasks, "report"}:
        pod = example.pod(task)
        (mount,) = pod["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == ("segmentation", "/mnt/segmentation")
        assert pod["emptyDirMounts"] == [{"volumeName": "scratch", "mountPath": "/tmp"}]
        (secret,) = pod["secretAsEnv"]
        assert secret["secretName"] == "segmentation-metadata"
        assert {"secretKey": "password", "envVar": "METADATA_PASSWORD"} in secret["keyToEnv"]


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_tls_mounts_the_secret_and_tells_each_task(kind: str) -> None:
    plain = compiled(f"metadata.kind={kind}")
    secured = compiled(f"metadata.kind={kind}", "metadata.tls=verify-full")
    for task in {*plain.tasks, "report"}:
        assert "secretAsVolume" not in plain.pod(task)
        (mounted,) = secured.pod(task)["secretAsVolume"]
        assert mounted["secretName"] == "segmentation-metadata"
        assert mounted["mountPath"] == pods.CERTIFICATES
        assert secured.pod(task)["secretAsEnv"] == plain.pod(task)["secretAsEnv"]
        arguments = " ".join(map(str, secured.executor(task)["args"]))
        assert f"--metadata {kind} --metadata-tls verify-full " in arguments
        assert "--metadata-tls" not in plain.executor(task)["args"]


def test_with_sqlite_one_task_runs_at_a_time_and_none_needs_the_secret() -> None:
    chained = compiled("metadata.kind=sqlite")
    order = list(chained.upstream())
    done: set[str] = set()
    while len(done) < len(order):
        ready = [n for n, up in chained.upstream().items() if n not in done and up <= done]
        assert len(ready) == 1
        done.add(ready[0])
    assert "secretAsEnv" not in chained.pod("trainer")


def test_the_pod_parts_are_what_kfp_kubernetes_itself_writes() -> None:
    from kfp import dsl, kubernetes

    if not hasattr(kubernetes, "add_toleration"):
        pytest.skip("POD PARTS NOT COMPARED: this kfp-kubernetes has no tolerations")

    @dsl.container_component
    def task():  # type: ignore[no-untyped-def]
        return dsl.ContainerSpec(image="a:b")

    chosen = settings.load(
        [settings.EXAMPLE_CONFIG],
        [
            "pools.l4-spot.node_selector={kind: l4}",
            "pools.l4-spot.tolerations=[{key: a, effect: NoExecute, seconds: 9}]",
            "pools.a100.node_selector={kind: a100}",
            "release.infra_validation=kubernetes",
            "metadata.tls=require",
        ],
    )

    def made_by_kfp(name: str) -> dict[str, Any]:
        theirs = task()
        secret = chosen.metadata.secret
        kubernetes.add_pod_label(theirs, "app.kubernetes.io/name", "segmentation-pipeline")
        kubernetes.set_timeout(theirs, chosen.component(name).max_minutes * 60)
        kubernetes.mount_pvc(theirs, chosen.storage.claim, chosen.storage.mount_path)
        kubernetes.empty_dir_mount(theirs, "scratch", "/tmp")
        kubernetes.use_secret_as_env(theirs, secret, pods.ENVIRONMENT)
        kubernetes.use_secret_as_volume(theirs, secret, pods.CERTIFICATES)
        for each in theirs.platform_config["kubernetes"]["secretAsEnv"]:
            assert each.pop("optional") is False  # the default
        if name == "InfraValidator":
            kubernetes.use_field_path_as_env(theirs, "KFP_NAMESPACE", "metadata.namespace")
        if name == "Trainer":
            kubernetes.add_node_selector(theirs, "kind", "l4")
            kubernetes.add_toleration(theirs, "a", "Exists", None, "NoExecute", 9)
        else:
            not_in = {"key": "kind", "operator": "NotIn", "values": ["a100", "l4"]}
            kubernetes.add_node_affinity(theirs, [not_in])
        return theirs.platform_config["kubernetes"]

    compared = ("Trainer", "Transform", "InfraValidator")
    theirs = {}

    @dsl.pipeline
    def whole():  # type: ignore[no-untyped-def]
        theirs.update({name: made_by_kfp(name) for name in compared})

    assert theirs == {name: pods.config(chosen, name) for name in compared}


def test_the_command_writes_the_file(tmp_path: Path, example: Compiled) -> None:
    path = tmp_path / "pipeline.yaml"
    arguments = ["compile", "--config", str(settings.EXAMPLE_CONFIG), "--output", str(path)]
    assert command.main(arguments) == 0
    assert path.read_text() == example.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "components.Trainr.cpu=2"], "Unknown component 'Trainr' in section 'components"),
        (["--set", "pools.a.cuont=1"], "did you mean 'pools.a.count'?"),
        (
            ["--output", "/proc/p.yaml"],
            "Cannot write /proc/p.yaml (No such file or directory)",
        ),
    ],
)
def test_the_command_refuses_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["compile", "--output", str(tmp_path / "p.yaml"), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.yaml").exists()


def test_help_waits_for_no_library() -> None:
    code = (
        "import sys\nfrom kubeflow.__main__ import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([m for m in ('kfp', 'tensorflow', 'tfx') if m in sys.modules])"
    )
    for arguments in (["--help"], ["compile", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_unknown_components_are_told_with_the_nearest() -> None:
    chosen = settings.load([], ["components.Pushr.cpu=1"])
    with pytest.raises(UserError, match="did you mean 'Pusher'"):
        compiler.compile_pipeline(chosen)
