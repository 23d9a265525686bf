"""Fixtures of the tests that call kubeflow commands against the stand-in for a server."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from kubeflow.__main__ import main
from tests.support.kfp.stand_in import StandIn


@dsl.container_component
def step(epochs: int, data_root: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="pipeline:1", command=["run"], args=[data_root, epochs])


def compile_package(path: Path, epochs: int = 50) -> Path:
    """Compiles a pipeline of the same build as ours, with a sub-graph that may be skipped."""

    def component(name: str, epochs: int, data_root: str) -> dsl.PipelineTask:
        task = step(epochs=epochs, data_root=data_root).set_display_name(name)
        return task.set_retry(2)

    @dsl.pipeline(name="segmentation")
    def pipeline(data_root: str, epochs: int = epochs, bound: float = 0.6) -> None:
        """Trains.

        Args:
          data_root: where the data is.
          epochs: most epochs to train.
        """
        report = component("Report", epochs, data_root)
        with dsl.ExitHandler(report, name="train-and-release"):
            first = component("ExampleGen", epochs, data_root)
            trainer = component("Trainer", epochs, data_root).after(first)
            with dsl.If(bound > 0.5, name="new"):
                component("Pusher", epochs, data_root).after(trainer)

    compiler.Compiler().compile(pipeline, str(path))
    return path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two compiled pipelines of one name and different content."""
    folder = tmp_path_factory.mktemp("packages")
    return compile_package(folder / "one.yaml"), compile_package(folder / "two.yaml", epochs=5)


class HttpServer(http.server.ThreadingHTTPServer):
    """Serves a StandIn on loopback, at a free port."""

    daemon_threads = True

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that lose patience close the connection."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HttpServer

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = self.server.stand_in.answer(self.command, self.path, self.headers, content)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


class Kubeflow:
    """Calls commands against a stand-in."""

    def __init__(
        self, server: HttpServer, package: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.server = server.stand_in
        self.url = server.url
        self.package = package
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, command: str, *arguments: str, host: str | None = None) -> int:
        code = main([command, "--host", host or self.url, *arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    def submit(self, *arguments: str, package: Path | None = None) -> int:
        where = ["--package", str(package or self.package), "--poll", "0.01"]
        return self("submit", *where, "--param", "data_root=/data", *arguments)

    def refusal(self, command: str, *arguments: str, host: str | None = None) -> str:
        """The one sentence of a command that ends with 2."""
        assert self(command, *arguments, host=host) == 2
        assert self.err.startswith("Error: ")
        assert "Traceback" not in self.err
        assert len(self.err.splitlines()) == 1
        return self.err

    @property
    def schedule(self) -> dict[str, Any]:
        (found,) = self.server.recurring_runs.values()
        return found


@pytest.fixture
def stand_in() -> Iterator[HttpServer]:
    server = HttpServer(StandIn())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    assert server.stand_in.faults == []


@pytest.fixture
def kubeflow(
    stand_in: HttpServer,
    packages: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Kubeflow:
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no kubeconfig, no settings of the SDK
    monkeypatch.setattr("kubeflow.waiting._PATIENCE_S", 5.0)  # a fault of the stand-in shows soon
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    return Kubeflow(stand_in, packages[0], capsys)


@pytest.fixture
def uploaded(kubeflow: Kubeflow) -> Kubeflow:
    assert kubeflow.submit("--no-run") == 0
    return kubeflow
