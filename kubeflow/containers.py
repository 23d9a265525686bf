"""The containers of a rehearsal: Docker stands in for the cluster."""

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

_SOCKET = "/var/run/docker.sock"  # Docker's default


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task whose container failed for the last time."""

    task: str
    code: int
    last_line: str

    def __str__(self) -> str:
        reason = self.last_line.removeprefix("Error: ").removeprefix(f"{self.task} failed: ")
        return f"{self.task} failed with exit code {self.code}: {reason}"


def connect(image: str) -> docker.DockerClient:
    """Connect to the Docker daemon, and check that it has the image.

    Raises:
      UserError: if the daemon cannot be reached or lacks the image.
    """
    try:
        client = docker.from_env()
        client.images.get(image)
    except errors.ImageNotFound:
        raise UserError(
            f"Docker has no image {image!r}; run docker build --target cpu -t {image} . to build "
            "it."
        ) from None
    except errors.DockerException as error:
        raise UserError(
            f"Cannot use Docker ({error}); start its daemon, or set DOCKER_HOST to another."
        ) from None
    return client


class Containers:
    """Runs tasks in containers the way pods run them.

    Containers have a read-only root file system, a scratch volume on /tmp and the folders of the
    volume. They run as the caller's user. Tasks that fail or are killed are retried.
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
        """Prepare the containers; run nothing.

        Args:
          client: client of the Docker daemon.
          image: image for all tasks, including those that have a GPU on the cluster.
          settings: settings of the compiled pipeline.
          folders: folders of this machine to mount in each container.
          shared: one of these folders, or a folder in one, with the same path in the containers.
          say: prints one line about the start or the end of an attempt.
        """
        self._client = client
        self._image = image
        self._settings = settings
        self._shared = shared
        self._mounts = [*folders, types.Mount("/tmp", source=None, type="volume")]
        certificates = os.environ.get(pods.CERTIFICATES_VARIABLE)
        if settings.metadata.tls != "off" and certificates:
            source = Path(certificates).resolve()
            self._mounts.append(folder(source, pods.CERTIFICATES, read_only=True))
        self._say = say
        self.failure: Failure | None = None

    def run(self, container: Container) -> int:
        """Run a task's container, with retries, and return the last exit code.

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
            seconds = f"{time.monotonic() - begin:.1f} s including the container"
            if code == DONE:
                self._say(f"+ {last_line.removesuffix('.')} ({seconds})")
                return code
            self._say(f"x {task}: exit code {code}, attempt {attempt} of {attempts}: {last_line}")
            if code == USER_ERROR:  # a retry would fail the same way
                break
        self.failure = self.failure or Failure(task, code, last_line)
        return code

    def _attempt(self, task: str, command: list[str]) -> tuple[int, str]:
        container = self._client.containers.create(
            self._image,
            entrypoint=command,  # Kubernetes' `command` replaces the image's entrypoint
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
        """Return the mounts; InfraValidator also gets Docker's socket, to start a model server."""
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
    """Return the socket of the Docker daemon."""
    return Path(os.environ.get("DOCKER_HOST", f"unix://{_SOCKET}").removeprefix("unix://"))


def check_environment(settings: KubeflowSettings) -> None:
    """Check what a rehearsal needs from the environment.

    Raises:
      UserError: if the login of the metadata store is missing, or Docker's socket for infra
        validation.
    """
    if settings.release.infra_validation != "off" and not _socket().is_socket():
        raise UserError(
            f"Infra validation needs Docker's socket, but {_socket()} is not a socket; set "
            "DOCKER_HOST to unix:///PATH, or set release.infra_validation to off."
        )
    missing = [name for name in pods.ENVIRONMENT.values() if not os.environ.get(name)]
    if settings.metadata.kind != "sqlite" and missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment; set them, or "
            "rehearse with --set metadata.kind=sqlite."
        )


def folder(path: Path, target: str, read_only: bool = False) -> types.Mount:
    """Return a mount of a folder of this machine."""
    return types.Mount(target, source=str(path), type="bind", read_only=read_only)
