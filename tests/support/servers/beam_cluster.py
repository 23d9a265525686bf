"""Beam's work in other processes: worker pools, job servers and Apache Flink on this machine.

Everything that is started here listens on loopback alone, gets free ports, and is ended by its
process id. A cluster's `args` are what `beam.args` takes beside ``beam.runner=PortableRunner``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

from tests.support.ports import free_port
from tests.support.runs import ROOT
from tests.support.servers import maven

RUNNER = "PortableRunner"

# What Flink's own scripts give a JVM: since Java 17 nothing may look into these packages unasked.
_OPENED = ["lang", "lang.reflect", "io", "net", "nio", "text", "time", "util"]
_OPENED += ["util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"]
_JAVA_OPTIONS = " ".join(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED)


@dataclass(frozen=True)
class Cluster:
    """A running one."""

    args: tuple[str, ...]  # Beam's options
    endpoint: str  # of the job server

    def done(self) -> int:
        """How many Beam pipelines it has run to their end."""
        with grpc.insecure_channel(self.endpoint) as channel:
            jobs = beam_job_api_pb2_grpc.JobServiceStub(channel)
            found = jobs.GetJobs(beam_job_api_pb2.GetJobsRequest()).job_info
        return sum(job.state == beam_job_api_pb2.JobState.DONE for job in found)


@contextlib.contextmanager
def job_service(folder: Path) -> Iterator[Cluster]:
    """Beam's job server in Python with one worker, from a pool; needs nothing else.

    It runs pipelines by the code of the direct runner, but as a cluster does: they reach it through
    the job API, and user code runs in workers that have the package and the shared disk, no more.
    """
    port = free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    command = _on_loopback(module, f"--port={port}", "--staging_dir", f"{folder}/staging")
    with _process("job_service", command, folder, lambda: _listens(port)), pool(folder) as address:
        endpoint = f"localhost:{port}"
        yield Cluster(_portable(endpoint, address), endpoint)


@contextlib.contextmanager
def flink(folder: Path, slots: int = 1) -> Iterator[Cluster]:
    """A standalone Flink cluster with Beam's job server before it, and a worker for each task slot.

    Raises:
      Unavailable: if Java, Maven or what they must fetch is not to be had.
    """
    jar = maven.job_server(flink_version())
    with flink_cluster(folder, slots) as master, pool(folder) as address:
        chosen = (f"--flink_job_server_jar={jar}", f"--flink_master={master}")
        options = PipelineOptions([*chosen, f"--artifacts_dir={folder}/artifacts"])
        command, endpoint = FlinkJarJobServer(options).subprocess_cmd_and_endpoint()
        port = int(endpoint.rpartition(":")[2])
        with _process("job_server", command, folder, lambda: _listens(port), _java()):
            args = _portable(endpoint, address)
            yield Cluster(
                (*args, f"--parallelism={slots}", f"--sdk_worker_parallelism={slots}"), endpoint
            )


def _on_loopback(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.programs.on_loopback", module, *arguments]


def _portable(endpoint: str, workers: str) -> tuple[str, ...]:
    return (
        f"--job_endpoint={endpoint}",
        "--job_server_timeout=3600",  # else a pipeline may take a minute in all
        "--environment_type=EXTERNAL",
        f"--environment_config={workers}",
    )


@contextlib.contextmanager
def pool(folder: Path) -> Iterator[str]:
    """Beam's pool of Python workers, a process each; the address it is asked at for one."""
    port = free_port()
    module = "apache_beam.runners.worker.worker_pool_main"
    command = _on_loopback(module, f"--service_port={port}")
    # It calls whatever is named python, in the folder that it was started in: so workers have
    # this virtual environment and this checkout, as those in a container image have its own.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with _process("workers", command, folder, lambda: _listens(port), {"PATH": path}):
        yield f"localhost:{port}"


def flink_version() -> str:
    """The newest Flink 1 that this Beam has a job server for."""
    ones = [v for v in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS if v.startswith("1.")]
    newest: str = max(ones, key=lambda version: int(version.partition(".")[2]))
    return newest


@contextlib.contextmanager
def flink_cluster(folder: Path, slots: int) -> Iterator[str]:
    """A job manager and a task manager, each a JVM; the address of Flink's REST API.

    Raises:
      Unavailable: if Java, Maven or what they must fetch is not to be had.
    """
    classes = f"{maven.flink(flink_version())}/*"
    rest, rpc = free_port(), free_port()
    # The sizes are what Flink's scripts would work out; its classes alone insist on being told.
    values = {
        "rest.port": rest,
        "rest.bind-address": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": rpc,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.cpu.cores": slots,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.heap.size": "768m",
        "taskmanager.memory.task.off-heap.size": "128m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "256m",
        "taskmanager.memory.jvm-metaspace.size": "512m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        "io.tmp.dirs": folder / "flink",
        "blob.storage.directory": folder / "blobs",
    }
    settings = folder / "conf"
    settings.mkdir()
    lines = (f"{key}: {value}\n" for key, value in values.items())
    (settings / "flink-conf.yaml").write_text("".join(lines))

    def command(heap: str, entry: str, *arguments: str) -> list[str]:
        java = ["java", f"-Xmx{heap}", "-XX:MaxMetaspaceSize=512m", "-cp", classes]
        java += [f"org.apache.flink.runtime.{entry}", "--configDir", str(settings)]
        return [*java, *arguments]

    entry = "entrypoint.StandaloneSessionClusterEntrypoint"
    manager = command("768m", entry, "--executionMode", "cluster")
    tasks = command("1g", "taskexecutor.TaskManagerRunner")
    with (
        _process("job_manager", manager, folder, lambda: _slots(rest) is not None, _java()),
        _process("task_manager", tasks, folder, lambda: _slots(rest) == slots, _java()),
    ):
        yield f"localhost:{rest}"


def _java() -> dict[str, str]:
    return {"JDK_JAVA_OPTIONS": _JAVA_OPTIONS}


def _slots(port: int) -> int | None:
    """Task slots of a Flink cluster; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/overview", timeout=5) as answer:
            return int(json.load(answer)["slots-total"])
    except (urllib.error.URLError, OSError):
        return None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def _process(
    name: str,
    command: list[str],
    folder: Path,
    ready: Callable[[], bool],
    environment: dict[str, str] | None = None,
) -> Iterator[None]:
    """Runs a command in the checkout, from when it is ready; what it prints is in a log."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name} did not start: {log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield
    finally:
        # Then its group, in which the workers of a pool are.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
