"""Setting ``release.infra_validation``: which model server tries a candidate, and where it runs."""

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
from pipeline.settings import Release

NODE = "InfraValidator"  # id of the component, which the pipeline has where it is asked for
SETTING = "release.infra_validation"
DOCKER, KUBERNETES = "docker", "kubernetes"

# TensorFlow Serving tries five times more, a minute apart, before it says that it cannot load a
# model; and there must be time to pull its image.
LOADING_SECONDS = 480
_TRIES = 2
_REQUESTS = 3  # photos, one a request

# In a rehearsal Docker stands for the cluster: the environment names a folder that has the same
# path for the task and for the Docker daemon.
SHARED_FOLDER = "INFRA_VALIDATION_FOLDER"


def serving_spec(release: Release) -> infra_validator_pb2.ServingSpec:
    """Which server, and where it runs."""
    found = re.fullmatch(r"([^@]*)(?::([^:/]+)|@(.+))", release.infra_image)
    assert found, "the settings are checked"
    name, tag, digest = found.groups()
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(
            image_name=name, tags=filter(None, [tag]), digests=filter(None, [digest])
        )
    )
    platform = spec.local_docker if release.infra_validation == DOCKER else spec.kubernetes
    platform.SetInParent()
    return spec


def validation_spec() -> infra_validator_pb2.ValidationSpec:
    """How patiently the server is tried."""
    return infra_validator_pb2.ValidationSpec(
        max_loading_time_seconds=LOADING_SECONDS, num_tries=_TRIES
    )


def request_spec() -> infra_validator_pb2.RequestSpec:
    """What the server is asked.

    TFX makes requests of serialized examples alone, so it cannot ask `contract.SERVE`, which takes
    photos. `contract.EVALUATE` takes examples, decodes their photos the same way, runs the same
    model, and answers with a few numbers.
    """
    return infra_validator_pb2.RequestSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServingRequestSpec(
            signature_names=[contract.EVALUATE]
        ),
        split_name=features.EVAL,
        num_examples=_REQUESTS,
    )


def here(spec: infra_validator_pb2.ServingSpec) -> infra_validator_pb2.ServingSpec:
    """The specification as it holds on this machine, which no cache key may depend on.

    TFX asks for Docker's usual socket, whatever DOCKER_HOST says.
    """
    found = infra_validator_pb2.ServingSpec()
    found.CopyFrom(spec)
    if os.environ.get(SHARED_FOLDER):
        found.local_docker.SetInParent()
    if found.HasField("local_docker"):
        found.local_docker.client_base_url = os.environ.get("DOCKER_HOST", "")
    return found


def check(release: Release) -> None:
    """Checks that a model server can be started from a run on this machine.

    Raises:
      UserError: if the Docker daemon cannot be reached, or this is no pod of Kubeflow Pipelines.
    """
    if release.infra_validation == KUBERNETES and not _in_pod(os.environ):
        raise UserError(
            f"Setting {SETTING!r} is 'kubernetes', which only works in a pod of Kubeflow "
            "Pipelines; here, set it to docker or off."
        )
    if release.infra_validation == DOCKER:
        client = None
        try:
            client = docker.DockerClient(base_url=os.environ.get("DOCKER_HOST"))
            client.ping()
        except docker_errors.DockerException as error:
            denied = "Permission denied" in str(error)
            fault = "does not let this user in" if denied else "does not answer"
            where = os.environ.get("DOCKER_HOST") or "its usual socket"
            raise UserError(
                f"Setting {SETTING!r} is 'docker', but the Docker daemon at {where} {fault}; start "
                "it, let DOCKER_HOST name another, or set it to off."
            ) from error
        finally:
            if client is not None:
                client.close()


def _in_pod(environment: Mapping[str, str]) -> bool:
    wanted = ("KUBERNETES_SERVICE_HOST", "KFP_POD_NAME", "KFP_NAMESPACE")
    return all(environment.get(name) for name in wanted)
