"""The compiled file against the protos of Kubeflow Pipelines: this SDK's, and the oldest server's.

A server reads the pipeline strictly: it refuses a field that it does not know. It reads the pods'
part twice, once leaving out what it does not know, and once strictly without a word, losing the
pods' labels (read in the source of 2.5.0: apiserver/template/v2_template.go, and
v2/compiler/argocompiler/container.go).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor, json_format
from google.protobuf.message import Message
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import compiler, settings

# Fields of PipelineSpec that 2.5.0 does not have, or with another meaning, and since which release.
NEWER = {
    "ComponentSpec.task_config_passthroughs": "2.15",
    "ComponentInputsSpec.ParameterSpec.literals": "2.16",
    "ImporterSpec.download_to_workspace": "2.15",
    "RuntimeArtifact.custom_path": "2.15",
    "SinglePlatformSpec.pipelineConfig": "2.15",
}
# What 2.5.0 knows of the messages that are used, as JSON writes it.
PODS = {
    "": {
        *("secretAsVolume", "secretAsEnv", "pvcMount", "nodeSelector", "podMetadata"),
        *("imagePullSecret", "imagePullPolicy", "configMapAsVolume", "configMapAsEnv"),
        *("activeDeadlineSeconds", "fieldPathAsEnv", "tolerations", "genericEphemeralVolume"),
        *("nodeAffinity", "podAffinity", "enabledSharedMemory", "emptyDirMounts"),
    },
    "secretAsEnv": {"secretName", "keyToEnv", "secretNameParameter"},
    "secretAsEnv.keyToEnv": {"secretKey", "envVar"},
    "pvcMount": {
        *("taskOutputParameter", "constant", "componentInputParameter", "mountPath"),
        "pvcNameParameter",
    },
    "nodeSelector": {"labels", "nodeSelectorJson"},
    "podMetadata": {"labels", "annotations"},
    "fieldPathAsEnv": {"name", "fieldPath"},
    "tolerations": {
        *("key", "operator", "value", "effect", "tolerationSeconds", "tolerationJson"),
    },
    "nodeAffinity": {"matchExpressions", "matchFields", "weight"},
    "nodeAffinity.matchExpressions": {"key", "operator", "values"},
    "emptyDirMounts": {"volumeName", "mountPath", "medium", "sizeLimit"},
}
# Maps from any key, and a message of PipelineSpec.
FREE = {"nodeSelector.labels", "podMetadata.labels", "podMetadata.annotations"}
PARAMETER = {"secretAsEnv.secretNameParameter", "pvcMount.pvcNameParameter"}
EVERYTHING = ["tune.trials=2", "release.copy_to=/c", "release.infra_validation=kubernetes"]


@pytest.fixture(scope="module", params=["gke", "eks", "aks", "trial"])
def documents(request: pytest.FixtureRequest) -> list[Any]:
    """The pipeline, and the pods' part, of each example with all that can be switched on."""
    file = settings.EXAMPLE_CONFIG.with_name(f"{request.param}.yaml")
    text = compiler.compile_pipeline(settings.load([file], EVERYTHING))
    return list(yaml.safe_load_all(text))


def fields(message: Message) -> Iterator[str]:
    """Names of all fields that are set in a message and those within it."""
    for field, value in message.ListFields():
        if field.containing_type.GetOptions().map_entry:
            continue
        yield f"{_name(field.containing_type)}.{field.name}"
        if field.type != descriptor.FieldDescriptor.TYPE_MESSAGE:
            continue
        kind = field.message_type
        if kind.GetOptions().map_entry:
            entries = value.values()
        else:
            entries = value if field.label == field.LABEL_REPEATED else [value]
        for entry in entries:
            if isinstance(entry, Message):
                yield from fields(entry)


def _name(message: descriptor.Descriptor) -> str:
    name: str = message.full_name.removeprefix("ml_pipelines.")
    return name


def test_this_sdks_protos_know_every_field(documents: list[Any]) -> None:
    pipeline, platform = documents
    json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())


def test_this_sdks_protos_know_every_field_of_the_pods(documents: list[Any]) -> None:
    config = kubernetes_executor_config_pb2.KubernetesExecutorConfig
    if "tolerations" not in config.DESCRIPTOR.fields_by_name:
        pytest.skip("PODS NOT HELD AGAINST THE SDK: this kfp-kubernetes is older than any server")
    for executor in executors(documents[1]).values():
        json_format.ParseDict(executor, config())


def test_the_oldest_server_takes_the_pipeline(documents: list[Any]) -> None:
    parsed = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    used = set(fields(parsed))
    assert "PipelineTaskSpec.RetryPolicy.max_retry_count" in used
    assert used & set(NEWER) == set()
    whole = json_format.ParseDict(documents[1], pipeline_spec_pb2.PlatformSpec())
    assert set(fields(whole)) & set(NEWER) == set()


def test_the_oldest_server_takes_the_pods(documents: list[Any]) -> None:
    for executor in executors(documents[1]).values():
        assert list(unknown(executor)) == []


def executors(platform: Any) -> dict[str, Any]:
    executors: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return executors


def unknown(value: Any, place: str = "") -> Iterator[str]:
    """Fields that `PODS` does not have."""
    if place in PARAMETER:
        json_format.ParseDict(value, pipeline_spec_pb2.TaskInputsSpec.InputParameterSpec())
        return
    if isinstance(value, list):
        for each in value:
            yield from unknown(each, place)
    elif isinstance(value, dict) and place not in FREE:
        for name, each in value.items():
            if name not in PODS[place]:
                yield f"{place}.{name}"
            elif isinstance(each, dict | list):
                yield from unknown(each, f"{place}.{name}".lstrip("."))


def test_a_newer_field_is_found(documents: list[Any]) -> None:
    executor = {**next(iter(executors(documents[1]).values()))}
    executor["podMetadata"] = {**executor["podMetadata"], "optional": False}
    assert list(unknown(executor)) == ["podMetadata.optional"]
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({"retries": 1}, pipeline_spec_pb2.PipelineSpec())
