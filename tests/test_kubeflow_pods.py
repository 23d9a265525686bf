"""The pods of a compiled pipeline: images, resources, node pools, volumes and secrets."""

from __future__ import annotations

from typing import Any

import pytest

from kubeflow import pods, settings
from tests.support.kfp.compiled import Compiled, admits, compiled

pytest_plugins = ["tests.support.kfp.compiled"]


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


def test_tasks_without_a_pool_avoid_accelerator_nodes(example: Compiled) -> None:
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


def test_sqlite_runs_one_task_at_a_time() -> None:
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
    def task():  # type: ignore[no-untyped-def]  # KFP refuses an annotation that is a string
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
        config: dict[str, Any] = theirs.platform_config["kubernetes"]
        return config

    compared = ("Trainer", "Transform", "InfraValidator")
    theirs = {}

    @dsl.pipeline
    def whole():  # type: ignore[no-untyped-def]
        theirs.update({name: made_by_kfp(name) for name in compared})

    assert theirs == {name: pods.config(chosen, name) for name in compared}
