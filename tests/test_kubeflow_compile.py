"""The compiled pipeline: its graph, run form and pods, read back with kfp's own loader."""

from __future__ import annotations

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
from pipeline.errors import UserError

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
        handler = self.spec["root"]["dag"]["tasks"]["exit-handler-1"]["componentRef"]["name"]
        self.tasks = self.spec["components"][handler]["dag"]["tasks"]

    def executor(self, task: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][f"exec-{task}"]["container"]

    def pod(self, task: str) -> dict[str, Any]:
        executors = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return executors[f"exec-{task}"]

    def upstream(self) -> dict[str, set[str]]:
        names = {key: task["taskInfo"]["name"] for key, task in self.tasks.items()}
        return {
            names[key]: {names[each] for each in task.get("dependentTasks", [])}
            for key, task in self.tasks.items()
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
    upstream = example.upstream()
    assert upstream["ExampleGen"] == upstream["ImportSchemaGen"] == set()
    assert upstream["StatisticsGen"] == {"ExampleGen", "ImportSchemaGen"}
    assert upstream["DriftValidator"] == {"StatisticsGen", "ReleasedData"}
    assert upstream["Transform"] == {"ExampleGen", "ImportSchemaGen", "DataGate"}
    assert upstream["Champion"] == {"Trainer"}
    assert upstream["Evaluator"] == {"ExampleGen", "ImportSchemaGen", "Trainer", "Champion"}
    assert upstream["Pusher"] == {
        "ExampleGen",
        "StatisticsGen",
        "Trainer",
        "Champion",
        "Evaluator",
    }
    assert len(upstream) == 12


def test_a_tuner_is_there_where_it_is_asked_for() -> None:
    asked = compiled("tune.trials=3")
    upstream = asked.upstream()
    assert upstream["Tuner"] == {"Transform"}
    assert "Tuner" in upstream["Trainer"] & upstream["Pusher"]
    assert len(upstream) == 13
    assert asked.executor("tuner")["image"] == "{{$.inputs.parameters['gpu_image']}}"
    pinned = {"tune.trials": 3}
    form.check_nodes(pinned, settings.load([], ["tune.trials=9"]))
    with pytest.raises(UserError, match=r"tune\.trials 0, but .* compiled with a Tuner"):
        form.check_nodes(pinned, settings.load())


def test_a_task_copies_the_release_where_it_is_asked_for() -> None:
    asked = compiled("release.copy_to=gs://bucket/models")
    assert asked.upstream()["Copier"] == {"Pusher"}
    assert '"release.copy_to": "gs://bucket/models"' in " ".join(asked.executor("copier")["args"])
    pinned = {"release.copy_to": "gs://bucket/models"}
    form.check_nodes(pinned, settings.load([], ["release.copy_to=gs://bucket/others"]))
    with pytest.raises(UserError, match=r"copy_to None, but .* compiled with a Copier"):
        form.check_nodes(pinned, settings.load())


def test_the_report_comes_last_whatever_happened(example: Compiled) -> None:
    report = example.spec["root"]["dag"]["tasks"]["report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    outputs = example.spec["components"]["comp-report"]["outputDefinitions"]["artifacts"]
    types = {name: each["artifactType"]["schemaTitle"] for name, each in outputs.items()}
    assert types == {"html": "system.HTML", "metrics": "system.Metrics"}


def test_kfp_caches_nothing_and_tries_again_with_growing_pauses(example: Compiled) -> None:
    tasks = [*example.tasks.values(), example.spec["root"]["dag"]["tasks"]["report"]]
    for task in tasks:
        assert not task["cachingOptions"].get("enableCache")
    policy = example.tasks["transform"]["retryPolicy"]
    assert (policy["maxRetryCount"], policy["backoffDuration"]) == (2, "60s")
    assert (policy["backoffFactor"], policy["backoffMaxDuration"]) == (2.0, "1800s")
    assert example.tasks["trainer"]["retryPolicy"]["maxRetryCount"] == 8
    assert not example.tasks["data-gate"]["retryPolicy"].get("maxRetryCount")


def test_the_run_form_has_defaults_and_help(example: Compiled) -> None:
    fields = example.spec["root"]["inputDefinitions"]["parameters"]
    assert all(field["description"] for field in fields.values())
    assert all(field["isOptional"] for field in fields.values())
    assert fields["train_epochs"]["defaultValue"] == 50
    assert fields["train_epochs"]["parameterType"] == "NUMBER_INTEGER"
    assert fields["gate_mean_iou"]["description"] == "gate.mean_iou: least mean IoU."
    assert fields["data_root"]["defaultValue"] == "/mnt/segmentation/data"
    assert fields["gpu_image"]["defaultValue"].endswith(":0.1.0-gpu")
    assert set(fields) >= {"settings", "image", "gate_pixel_accuracy", "gate_class_iou"}


def test_settings_are_the_defaults_of_the_form() -> None:
    fields = compiled("train.epochs=7", "image.cpu=r.example/a:2").spec["root"]["inputDefinitions"]
    assert fields["parameters"]["train_epochs"]["defaultValue"] == 7
    assert fields["parameters"]["image"]["defaultValue"] == "r.example/a:2"


def test_only_tasks_on_accelerators_take_the_gpu_image(example: Compiled) -> None:
    assert example.executor("trainer")["image"] == "{{$.inputs.parameters['gpu_image']}}"
    for task in {*example.tasks, "report"} - {"trainer"}:
        assert example.executor(task)["image"] == "{{$.inputs.parameters['image']}}"
        assert "accelerator" not in example.executor(task)["resources"]


def test_resources_and_time_limits(example: Compiled) -> None:
    resources = example.executor("trainer")["resources"]
    assert resources["accelerator"]["type"] == "nvidia.com/gpu"
    assert int(resources["accelerator"]["count"]) == 1
    assert resources["cpuRequest"] == 4.0
    assert "cpuLimit" not in resources
    assert resources["memoryRequest"] == resources["memoryLimit"] == 12 * 2**30 / 1e9
    assert example.pod("trainer")["activeDeadlineSeconds"] == str(720 * 60)
    assert {v["name"]: v["value"] for v in example.executor("trainer")["env"]}[
        "TF_FORCE_GPU_ALLOW_GROWTH"
    ] == "true"


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
        if name == "Trainer":
            kubernetes.add_node_selector(theirs, "kind", "l4")
            kubernetes.add_toleration(theirs, "a", "Exists", None, "NoExecute", 9)
        else:
            not_in = {"key": "kind", "operator": "NotIn", "values": ["a100", "l4"]}
            kubernetes.add_node_affinity(theirs, [not_in])
        return theirs.platform_config["kubernetes"]

    theirs = {}

    @dsl.pipeline
    def whole():  # type: ignore[no-untyped-def]
        theirs.update({name: made_by_kfp(name) for name in ("Trainer", "Transform")})

    assert theirs == {name: pods.config(chosen, name) for name in ("Trainer", "Transform")}


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
            "Cannot write /proc/p.yaml: No such file or directory",
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
