"""The containers of a rehearsal: Docker in place of the cluster's pods."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import docker
from docker import errors, types

from kubeflow import entrypoint, pods
from kubeflow.settings import KubeflowSettings
from pipeline.errors import UserError


@dataclasses.dataclass(frozen=True)
class Failure:
    """A task whose container failed, and will not be tried again."""

    task: str
    code: int
    last_line: str

    def __str__(self) -> str:
        return f"{self.task} ended with code {self.code}; its last line: {self.last_line}"


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
        say: Callable[[str], None],
    ) -> None:
        """Prepares, and runs nothing.

        Args:
          client: reaches the daemon.
          image: of all tasks, with a GPU on the cluster or without.
          settings: what the pipeline was compiled with.
          folders: what each container sees of this machine.
          say: takes one line about a task's begin, end or new attempt.
        """
        self._client = client
        self._image = image
        self._settings = settings
        self._mounts = [*folders, types.Mount("/tmp", source=None, type="volume")]
        self._say = say
        self.failure: Failure | None = None

    def run(self, command: list[str], **_: object) -> int:
        """Stands in for kfp.local's `run_docker_container`; returns the exit code.

        kfp.local's own lets Docker remove the container at its end, and takes one that is gone
        before its exit code was asked for as a success. It knows no retries either.

        Raises:
          UserError: if Docker cannot start the container.
        """
        task = _task(command)
        attempts = 1 + self._settings.retries_of(task)
        for attempt in range(1, attempts + 1):
            self._say(f"> {task}")
            begin = time.monotonic()
            try:
                code, last_line = self._attempt(task, command)
            except errors.DockerException as error:
                raise UserError(f"Docker cannot run a container for {task}: {error}.") from None
            seconds = f"{time.monotonic() - begin:.1f} s with its container"
            if code == entrypoint.DONE:
                self._say(f"+ {last_line.removesuffix('.')}, {seconds}")
                return code
            self._say(f"x {task}: exit code {code}, attempt {attempt} of {attempts}: {last_line}")
            if code == entrypoint.USER_ERROR:  # the same answer each time
                break
        self.failure = self.failure or Failure(task, code, last_line)
        return code

    def _attempt(self, task: str, command: list[str]) -> tuple[int, str]:
        container = self._client.containers.create(
            self._image,
            entrypoint=command,  # what Kubernetes calls command replaces the image's entrypoint
            environment=self._environment(task),
            labels={"task": task},
            mounts=self._mounts,
            network_mode="host",
            read_only=True,
            user=f"{os.getuid()}:{os.getgid()}",
        )
        try:
            container.start()
            for chunk in container.logs(stream=True, follow=True):
                print(chunk.decode(errors="replace"), end="")
            code = container.wait()["StatusCode"]
            return code, container.logs(tail=1).decode(errors="replace").strip()
        finally:
            container.remove(force=True, v=True)

    def _environment(self, task: str) -> dict[str, str]:
        environment = dict(pods.environment(self._settings.pool(task)))
        if self._settings.metadata.kind == "mysql":
            environment |= {name: os.environ[name] for name in pods.ENVIRONMENT.values()}
        return environment


def check_environment(settings: KubeflowSettings) -> None:
    """Raises UserError if the metadata store's login is not in the environment, but is needed."""
    missing = [name for name in pods.ENVIRONMENT.values() if not os.environ.get(name)]
    if settings.metadata.kind == "mysql" and missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment, where a pod has "
            "them from its Secret; set them, or rehearse with --set metadata.kind=sqlite."
        )


def folder(path: Path, target: str, read_only: bool = False) -> types.Mount:
    """A folder of this machine as containers see it."""
    return types.Mount(target, source=str(path), type="bind", read_only=read_only)


def _task(command: Sequence[str]) -> str:
    """The task's name, from the command that `kubeflow.compiler` gives it."""
    words: list[Any] = list(command[: command.index("--run-id")])
    return words[-1] if words[-2] == "run" else "Report"
