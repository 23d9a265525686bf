"""The containers of a rehearsal: Docker in place of the cluster's pods."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import docker
from docker import errors, types

from kubeflow import form, pods
from kubeflow.orchestration import Container
from kubeflow.settings import KubeflowSettings
from pipeline.core import progress
from pipeline.core.errors import DONE, USER_ERROR, UserError
from pipeline.release.infra_validation import SHARED_FOLDER

_SOCKET = "/var/run/docker.sock"  # Docker's usual one


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task whose container failed, and will not be tried again."""

    task: str
    code: int
    last_line: str

    def __str__(self) -> str:
        said = self.last_line.removeprefix("Error: ")
        return f"{self.task} ended with code {self.code}; its last line: {said}"


def connect(image: str) -> docker.DockerClient:
    """Reaches the Docker daemon, which must have the image.

    Raises:
      UserError: if there is no daemon, it refuses, or it has no such image.
    """
    try:
        client = docker.from_env()
        client.images.get(image)
    except errors.ImageNotFound:
        raise UserError(
            f"Docker has no image {image!r}; build it: docker build --target cpu -t {image} ."
        ) from None
    except errors.DockerException as error:
        raise UserError(
            f"Docker cannot be used here ({error}); start its daemon, or let DOCKER_HOST name one."
        ) from None
    return client


class Containers:
    """Runs tasks in containers as they run in pods.

    That is: read-only root file system, a scratch volume on /tmp, no rights of root unless the
    caller is root, the volume's folders, and a new attempt for one that failed or was killed.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        image: str,
        settings: KubeflowSettings,
        folders: Sequence[types.Mount],
        shared: Path,
        say: Callable[[str], None],
    ) -> None:
        """Prepares, and runs nothing.

        Args:
          client: reaches the daemon.
          image: of all tasks, with a GPU on the cluster or without.
          settings: what the pipeline was compiled with.
          folders: what each container sees of this machine.
          shared: a folder among them, or below one, that has the same path in the containers.
          say: takes one line about a task's begin, end or new attempt.
        """
        self._client = client
        self._image = image
        self._settings = settings
        self._shared = shared
        self._mounts = [*folders, types.Mount("/tmp", source=None, type="volume")]
        certificates = os.environ.get(pods.CERTIFICATES_VARIABLE)
        if settings.metadata.tls != "off" and certificates:
            held = Path(certificates).resolve()
            self._mounts.append(folder(held, pods.CERTIFICATES, read_only=True))
        self._say = say
        self.failure: Failure | None = None

    def run(self, container: Container) -> int:
        """Runs a task's container, again if it fails; returns the last exit code.

        Raises:
          UserError: if Docker cannot start the container.
        """
        task, command = container.task, container.command
        attempts = 1 + container.retries
        for attempt in range(1, attempts + 1):
            self._say(f"> {task}")
            begin = time.monotonic()
            try:
                with progress.watched(task):
                    code, last_line = self._attempt(task, command)
            except errors.DockerException as error:
                raise UserError(f"Docker cannot run a container for {task}: {error}.") from None
            seconds = f"{time.monotonic() - begin:.1f} s with its container"
            if code == DONE:
                self._say(f"+ {last_line.removesuffix('.')}, {seconds}")
                return code
            self._say(f"x {task}: exit code {code}, attempt {attempt} of {attempts}: {last_line}")
            if code == USER_ERROR:  # the same answer each time
                break
        self.failure = self.failure or Failure(task, code, last_line)
        return code

    def _attempt(self, task: str, command: list[str]) -> tuple[int, str]:
        container = self._client.containers.create(
            self._image,
            entrypoint=command,  # what Kubernetes calls command replaces the image's entrypoint
            environment=self._environment(task),
            labels={"task": task},
            network_mode="host",
            read_only=True,
            user=f"{os.getuid()}:{os.getgid()}",
            **self._access(task),
        )
        try:
            container.start()
            for chunk in container.logs(stream=True, follow=True):
                sys.stdout.write(chunk.decode(errors="replace"))
            code = container.wait()["StatusCode"]
            return code, container.logs(tail=1).decode(errors="replace").strip()
        finally:
            container.remove(force=True, v=True)

    def _access(self, task: str) -> dict[str, Any]:
        """What the container sees; InfraValidator starts another one, as its pod starts a pod."""
        if task != form.INFRA_VALIDATOR:
            return {"mounts": self._mounts}
        socket = types.Mount(_SOCKET, source=str(_socket()), type="bind")
        return {"mounts": [*self._mounts, socket], "group_add": [_socket().stat().st_gid]}

    def _environment(self, task: str) -> dict[str, str]:
        environment = dict(pods.environment(self._settings.pool(task)))
        if task == form.INFRA_VALIDATOR:
            environment |= {"DOCKER_HOST": f"unix://{_SOCKET}"}
            environment |= {SHARED_FOLDER: str(self._shared / "infra-validation")}
        if self._settings.metadata.kind != "sqlite":
            environment |= {name: os.environ[name] for name in pods.ENVIRONMENT.values()}
        return environment


def _socket() -> Path:
    """The socket of the Docker daemon."""
    return Path(os.environ.get("DOCKER_HOST", f"unix://{_SOCKET}").removeprefix("unix://"))


def check_environment(settings: KubeflowSettings) -> None:
    """Raises UserError if what a rehearsal needs of the environment is not there.

    That is the login of the metadata store and, for infra validation, a socket of Docker.
    """
    if settings.release.infra_validation != "off" and not _socket().is_socket():
        raise UserError(
            "Infra validation in a rehearsal starts its server on Docker through the daemon's "
            f"socket, but {_socket()} is none; let DOCKER_HOST name it, unix:///path, or set "
            "release.infra_validation to off."
        )
    missing = [name for name in pods.ENVIRONMENT.values() if not os.environ.get(name)]
    if settings.metadata.kind != "sqlite" and missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment, where a pod has "
            "them from its Secret; set them, or rehearse with --set metadata.kind=sqlite."
        )


def folder(path: Path, target: str, read_only: bool = False) -> types.Mount:
    """A folder of this machine as containers see it."""
    return types.Mount(target, source=str(path), type="bind", read_only=read_only)
