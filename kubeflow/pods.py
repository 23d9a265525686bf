"""Pod configuration of a task: the content of the compiled file's platform document.

This is the JSON of kfp-kubernetes' message `KubernetesExecutorConfig`. Its functions are not used,
because kfp-kubernetes on the compatible stack lacks tolerations, affinities and time limits; a test
compares the result with the functions of the current version.
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
# Mount path of the Secret's certificates, with TLS.
CERTIFICATES = "/etc/segmentation-metadata"
CERTIFICATES_VARIABLE = "METADATA_CERTIFICATES"  # another folder, for use outside of pods


def config(settings: KubeflowSettings, name: str) -> dict[str, Any]:
    """Build the pod configuration of a component's task.

    A component with a pool runs only on nodes of that pool. One without a pool runs on any node
    that is not in a pool with accelerators, whether that pool is tainted or not.
    """
    component, pool = settings.component(name), settings.pool(name)
    result = _common(settings, name, component)
    if pool is not None:
        result["nodeSelector"] = {"labels": dict(pool.node_selector)}
        if pool.tolerations:
            result["tolerations"] = [_toleration(each) for each in pool.tolerations]
    if pool is None or not pool.count:
        affinity = _outside(settings.accelerated_pools().values())
        if affinity:
            result["nodeAffinity"] = affinity
    return result


def _common(settings: KubeflowSettings, name: str, component: Component) -> dict[str, Any]:
    result: dict[str, Any] = {
        # The network policy in kubeflow/manifests selects the pods by this label.
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
        # TFX's runner finds its own pod by this and KFP_POD_NAME, which the server sets.
        result["fieldPathAsEnv"] = [{"name": "KFP_NAMESPACE", "fieldPath": "metadata.namespace"}]
    if settings.metadata.kind != "sqlite":
        result["secretAsEnv"] = [
            {
                "secretName": settings.metadata.secret,
                "keyToEnv": [
                    {"secretKey": key, "envVar": variable} for key, variable in ENVIRONMENT.items()
                ],
                # No "optional": servers before 2.15 do not know it, and then drop the labels.
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


def _outside(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    """Build the terms of a node affinity that matches all nodes outside the pools.

    A node is in a pool if it has all labels of the selector, so it is outside if one label differs.
    A node must match all expressions of at least one term. So there is one term for each way to
    pick one label from every pool.
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
    """Return the environment variables of a task's container."""
    common = {"HOME": "/tmp", "MPLCONFIGDIR": "/tmp/matplotlib"}
    accelerated = pool is not None and pool.count > 0
    if accelerated:
        return {**common, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return {**common, "CUDA_VISIBLE_DEVICES": "-1"}  # spares TensorFlow's warning about no GPU
