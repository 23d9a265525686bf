"""Setting ``release.infra_validation``: which model server tests a candidate, and where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import docker
from docker import errors as docker_errors
from tfx.proto import infra_validator_pb2

from pipeline.core import features
from pipeline.core.errors import UserError
from pipeline.saved_model import contract
from pipeline.settings.schema import Release

NODE = "InfraValidator"  # component id; the pipeline has the component only if the setting is on
SETTING = "release.infra_validation"
DOCKER, KUBERNETES = "docker", "kubernetes"

# TensorFlow Serving retries a failed load five times, a minute apart, before it reports an error.
# The rest is time to pull its image.
LOADING_SECONDS = 480
_TRIES = 2
_REQUESTS = 3  # photos, one per request

# In a rehearsal, Docker replaces the cluster. This environment variable names a folder that has the
# same path in the task and for the Docker daemon.
SHARED_FOLDER = "INFRA_VALIDATION_FOLDER"


def serving_spec(release: Release) -> infra_validator_pb2.ServingSpec:
    """The server image, and the platform that runs it."""
    match = re.fullmatch(r"([^@]*)(?::([^:/]+)|@(.+))", release.infra_image)
    assert match, "the settings schema accepts only images with a tag or a digest"
    name, tag, digest = match.groups()
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(
            image_name=name, tags=filter(None, [tag]), digests=filter(None, [digest])
        )
    )
    platform = spec.local_docker if release.infra_validation == DOCKER else spec.kubernetes
    platform.SetInParent()
    return spec


def validation_spec() -> infra_validator_pb2.ValidationSpec:
    """How long to wait for the server, and how often to retry."""
    return infra_validator_pb2.ValidationSpec(
        max_loading_time_seconds=LOADING_SECONDS, num_tries=_TRIES
    )


def request_spec() -> infra_validator_pb2.RequestSpec:
    """Which signature to call, and with which examples.

    TFX builds requests only from serialised examples, so it cannot call `contract.SERVE`, which
    takes photos. `contract.EVALUATE` takes examples, decodes their photos the same way, runs the
    same model, and returns a few numbers.
    """
    return infra_validator_pb2.RequestSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServingRequestSpec(
            signature_names=[contract.EVALUATE]
        ),
        split_name=features.EVAL,
        num_examples=_REQUESTS,
    )


def here(spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
    """Adapts a specification to this machine; kept apart so that no cache key depends on it.

    TFX connects to Docker's default socket and ignores DOCKER_HOST unless the specification names
    it.
    """
    local = infra_validator_pb2.ServingSpec()
    local.CopyFrom(spec)
    if os.environ.get(SHARED_FOLDER):
        local.local_docker.SetInParent()
    if local.HasField("local_docker"):
        local.local_docker.client_base_url = os.environ.get("DOCKER_HOST", "")
    return local


def check(release: Release) -> None:
    """Checks that a run on this machine can start a model server.

    Raises:
      UserError: if the Docker daemon does not respond, or this is not a Kubeflow Pipelines pod.
    """
    if release.infra_validation == KUBERNETES and not _in_pod(os.environ):
        raise UserError(
            f"Setting {SETTING!r} is 'kubernetes', which works only in a Kubeflow Pipelines pod. "
            "Set it to docker or off."
        )
    if release.infra_validation == DOCKER:
        client = None
        try:
            client = docker.DockerClient(base_url=os.environ.get("DOCKER_HOST"))
            client.ping()
        except docker_errors.DockerException as error:
            denied = "Permission denied" in str(error)
            fault = "denies access to this user" if denied else "does not respond"
            address = os.environ.get("DOCKER_HOST") or "its default socket"
            raise UserError(
                f"Setting {SETTING!r} is 'docker', but the Docker daemon at {address} {fault}. "
                "Start it, point DOCKER_HOST at another, or set it to off."
            ) from error
        finally:
            if client is not None:
                client.close()


def _in_pod(environment: Mapping[str, str]) -> bool:
    variables = ("KUBERNETES_SERVICE_HOST", "KFP_POD_NAME", "KFP_NAMESPACE")
    return all(environment.get(name) for name in variables)
