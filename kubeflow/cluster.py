"""What only the cluster knows, not Kubeflow Pipelines' API: which failed tasks it tries again."""

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
# What is retried under Argo's policies, where it is not what the shipped patch makes of them.
_RETRIED = {
    "OnError": "pods that vanish are tried again; evicted ones and failed containers are not",
    "OnFailure": (
        "failed containers and evicted pods are tried again, even where it is of no use; pods that "
        "vanish are not"
    ),
    "OnTransientError": "only what Argo takes for a passing fault is tried again",
    "Always": "everything is tried again, many times over, even where it is of no use",
}
MENDED = "lost pods are tried again, and failed containers where it may help"


def retries() -> str | None:
    """Which failed tasks are tried again: in the cluster this pod is in, else in kubeconfig's.

    Returns:
      A sentence; None if no cluster is known or reached, or its configuration may not be read or
      says something that is not known here.
    """
    # A broken kubeconfig, a login program that is missing: each raises what it likes.
    with contextlib.suppress(Exception), _silenced("kubernetes", "urllib3"):
        where, data = _config_map()
        if what := explain(data):
            return f"{where}, {what}."
    return None


def explain(data: Mapping[str, Any]) -> str | None:
    """The same of the content of Argo's ConfigMap; None if that cannot be told."""
    strategy = _strategy(data)
    if strategy is None:
        return None
    if expression := strategy.get("expression"):
        wanted = _strategy(yaml_text.load(PATCH.read_text())["data"]) or {}
        return MENDED if expression == wanted["expression"] else None
    policy = _RETRIED.get(strategy.get("retryPolicy") or "OnFailure")
    return policy and (
        f"{policy}; kubectl patch -n {NAMESPACE} configmap {CONFIG_MAP} --patch-file {PATCH} "
        "mends it"
    )


def _strategy(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The retry strategy that Argo lays under all tasks; empty if there is none, None if odd."""
    try:
        defaults = yaml_text.load(data.get("workflowDefaults") or "{}") or {}
        templates = (defaults.get("spec") or {}).get("templateDefaults") or {}
        strategy = templates.get("retryStrategy") or {}
    except (yaml_text.Malformed, AttributeError, TypeError):
        return None
    return strategy if isinstance(strategy, Mapping) else None


def _config_map() -> tuple[str, Mapping[str, Any]]:
    """Which cluster was asked, and the content of its ConfigMap."""
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
        where = "In this cluster"
    except config.ConfigException:
        config.load_kube_config(client_configuration=settings)
        context = config.list_kube_config_contexts()[1]["name"]
        where = f"In the cluster of kubeconfig's context {context!r}"
    settings.retries = False
    found = client.CoreV1Api(client.ApiClient(settings)).read_namespaced_config_map(
        CONFIG_MAP, NAMESPACE, _request_timeout=_SECONDS
    )
    return where, found.data or {}


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
