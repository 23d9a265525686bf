"""The pod parts of a task: what kfp-kubernetes writes into the YAML's platform document.

Written here as the JSON of kfp-kubernetes' message `KubernetesExecutorConfig` instead of through
its functions, because the compatible stack's kfp-kubernetes has no tolerations, affinities or time
limits; a test holds this against the functions of the current one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from kubeflow.form import INFRA_VALIDATOR
from kubeflow.settings import Component, KubeflowSettings, Pool, Toleration

# Keys of the Secret; the environment variables are METADATA_HOST and so on.
SECRET_KEYS = ("host", "port", "database", "user", "password")
ENVIRONMENT = {key: f"METADATA_{key.upper()}" for key in SECRET_KEYS}
# Where the Secret is mounted for its certificates, if TLS is asked for.
CERTIFICATES = "/etc/segmentation-metadata"
CERTIFICATES_VARIABLE = "METADATA_CERTIFICATES"  # names another folder, where no pod is


def config(settings: KubeflowSettings, name: str) -> dict[str, Any]:
    """The platform part of a component's task.

    A component with a pool goes to its nodes only; one without goes to any node that is in no pool
    with accelerators, tainted or not.
    """
    component, pool = settings.component(name), settings.pool(name)
    result = _common(settings, name, component)
    if pool is not None:
        result["nodeSelector"] = {"labels": dict(pool.node_selector)}
        if pool.tolerations:
            result["tolerations"] = [_toleration(each) for each in pool.tolerations]
    if pool is None or not pool.count:
        affinity = _elsewhere(settings.accelerated_pools().values())
        if affinity:
            result["nodeAffinity"] = affinity
    return result


def _common(settings: KubeflowSettings, name: str, component: Component) -> dict[str, Any]:
    result: dict[str, Any] = {
        # By it the network policy of kubeflow/manifests knows the pods.
        "podMetadata": {"labels": {"app.kubernetes.io/name": "segmentation-pipeline"}},
        "activeDeadlineSeconds": str(component.max_minutes * 60),
        "pvcMount": [
            {
                "mountPath": settings.storage.mount_path,
                "constant": settings.storage.claim,
                "pvcNameParameter": _constant(settings.storage.claim),
            }
        ],
        # The image's file system is read-only.
        "emptyDirMounts": [{"volumeName": "scratch", "mountPath": "/tmp"}],
    }
    if name == INFRA_VALIDATOR and settings.release.infra_validation != "off":
        # With KFP_POD_NAME, which the server sets, TFX's runner finds its own pod.
        result["fieldPathAsEnv"] = [{"name": "KFP_NAMESPACE", "fieldPath": "metadata.namespace"}]
    if settings.metadata.kind != "sqlite":
        result["secretAsEnv"] = [
            {
                "secretName": settings.metadata.secret,
                "keyToEnv": [
                    {"secretKey": key, "envVar": variable} for key, variable in ENVIRONMENT.items()
                ],
                # Not "optional": a server before 2.15 does not know it, and then drops the labels.
                "secretNameParameter": _constant(settings.metadata.secret),
            }
        ]
    if settings.metadata.tls != "off":
        result["secretAsVolume"] = [
            {
                "secretName": settings.metadata.secret,
                "mountPath": CERTIFICATES,
                "secretNameParameter": _constant(settings.metadata.secret),
                "optional": False,
            }
        ]
    return result


def _constant(value: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
        "tolerationSeconds": None if toleration.seconds is None else str(toleration.seconds),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _elsewhere(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    """Terms of a node affinity that holds on every node outside the pools.

    A node is in a pool if all labels of its selector fit, so it is outside if one does not. Terms
    are alternatives, and the expressions of one must all hold: hence a term for each way to choose
    one label from every pool.
    """
    choices = [sorted(pool.node_selector.items()) for pool in pools]
    if not choices:
        return []
    terms: dict[tuple[tuple[str, tuple[str, ...]], ...], dict[str, Any]] = {}
    for labels in itertools.product(*choices):
        values: dict[str, set[str]] = {}
        for key, value in labels:
            values.setdefault(key, set()).add(value)
        term = tuple(sorted((key, tuple(sorted(each))) for key, each in values.items()))
        terms[term] = {
            "matchExpressions": [
                {"key": key, "operator": "NotIn", "values": list(each)} for key, each in term
            ]
        }
    return list(terms.values())


def environment(pool: Pool | None) -> Mapping[str, str]:
    """Environment variables of a task's container."""
    common = {"HOME": "/tmp", "MPLCONFIGDIR": "/tmp/matplotlib"}
    accelerated = pool is not None and pool.count > 0
    if accelerated:
        return {**common, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {**common, "CUDA_VISIBLE_DEVICES": "-1"}  # TensorFlow looks for no GPU, and misses none
