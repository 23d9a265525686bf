"""Metadata stores on database servers, as a task opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeflow import metadata, pods
from pipeline.core.errors import UserError

LOGIN = {"host": "127.0.0.1", "port": "1", "database": "d", "user": "u", "password": "p"}


def environment(certificates: Path = Path(), **changes: str) -> dict[str, str]:
    found = {pods.ENVIRONMENT[key]: value for key, value in {**LOGIN, **changes}.items()}
    return {**found, pods.CERTIFICATES_VARIABLE: str(certificates)}


def refusal(kind: str, tls: str, certificates: Path, **login: str) -> str:
    """The sentence of a server that refuses."""
    with pytest.raises((UserError, ConnectionError)) as refused:
        metadata.open_store(kind, certificates, tls, environment(certificates, **login))
    sentence = str(refused.value)
    assert login["password"] not in sentence
    return sentence


def opens(kind: str, tls: str, certificates: Path, **login: str) -> None:
    metadata.open_store(kind, certificates, tls, environment(certificates, **login))
