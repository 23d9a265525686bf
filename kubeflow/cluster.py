"""Ask the cluster which failed tasks it retries; the Kubeflow Pipelines API does not report it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import yaml_text

_MANIFESTS = Path(__file__).with_name("manifests")
PATCH = _MANIFESTS / "components" / "retries" / "workflow-defaults.yaml"
NAMESPACE, CONFIG_MAP = "kubeflow", "workflow-controller-configmap"
_SECONDS = 5
# What Argo's policies retry without the patch.
_RETRIED = {
    "OnError": "lost pods are retried, but evicted pods and failed containers are not",
    "OnFailure": (
        "failed containers and evicted pods are retried, even if that cannot help, but lost pods "
        "are not"
    ),
    "OnTransientError": "only transient errors are retried",
    "Always": "everything is retried many times, even if that cannot help",
}
PATCHED = "lost pods are retried, and so are failed containers when a retry may help"


def retries() -> str | None:
    """Say which failed tasks the cluster retries: this pod's cluster, or that of kubeconfig.

    Returns:
      A sentence; None if there is no cluster, or its configuration is unreadable or unusual.
    """
    # Suppress everything: a broken kubeconfig or login program can raise any exception.
    with contextlib.suppress(Exception), _silenced("kubernetes", "urllib3"):
        where, data = _config_map()
        if what := explain(data):
            return f"{where}, {what}."
    return None


def explain(data: Mapping[str, Any]) -> str | None:
    """Say the same for the content of Argo's ConfigMap; None if it is unusual."""
    strategy = _strategy(data)
    if strategy is None:
        return None
    if expression := strategy.get("expression"):
        wanted = _strategy(yaml_text.load(PATCH.read_text())["data"]) or {}
        return PATCHED if expression == wanted["expression"] else None
    policy = _RETRIED.get(strategy.get("retryPolicy") or "OnFailure")
    return policy and (
        f"{policy}; run kubectl patch -n {NAMESPACE} configmap {CONFIG_MAP} --patch-file {PATCH} "
        "to change that"
    )


def _strategy(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return Argo's default retry strategy; empty if there is none, None if it is unusual."""
    try:
        found = yaml_text.load(data.get("workflowDefaults") or "{}")
        for name in ("spec", "templateDefaults", "retryStrategy"):
            found = found and found.get(name)
    except (yaml_text.Malformed, AttributeError, TypeError):
        return None
    strategy = found or {}
    return strategy if isinstance(strategy, Mapping) else None


def _config_map() -> tuple[str, Mapping[str, Any]]:
    """Return the name of the cluster and the content of its ConfigMap."""
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
        where = "In this cluster"
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)
        context = config.list_kube_config_contexts()[1]["name"]
        where = f"In the cluster of the kubeconfig context {context!r}"
    configuration.retries = False
    config_map = client.CoreV1Api(client.ApiClient(configuration)).read_namespaced_config_map(
        CONFIG_MAP, NAMESPACE, _request_timeout=_SECONDS
    )
    return where, config_map.data or {}


@contextlib.contextmanager
def _silenced(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
