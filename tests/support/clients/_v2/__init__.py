"""What servers of the Open Inference Protocol (v2) share: how they are set up, run and asked."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
from numpy.typing import NDArray

from tests.support import debian

from .. import _building

_WAIT = 120  # seconds, for a server to load its model, and for one answer
_DATATYPES = {"UINT8": np.uint8, "FP32": np.float32}
# They listen on this machine alone.
_HERE = "127.0.0.1"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    http_port: int
    grpc_port: int
    model: str  # the name of its only model

    def get(self, path: str) -> Any:
        """The JSON under a path, or None if the answer is empty.

        Raises:
          RuntimeError: with the status and what the server says of it.
        """
        return self._call(path, None)

    def infer(self, request: Mapping[str, Any]) -> Any:
        """The JSON that answers a request for inference.

        Raises:
          RuntimeError: with the status and what the server says of it.
        """
        return self._call(f"/v2/models/{self.model}/infer", json.dumps(request).encode())

    def ask(self, photos: NDArray[Any], *outputs: str) -> dict[str, NDArray[Any]]:
        """The named outputs, or all, for photos of one size, over REST, in plain JSON.

        Args:
          photos: uint8 [batch, height, width, 3].
          outputs: names; none: all.
        """
        answers = self.infer(request(photos, *outputs))["outputs"]
        return {
            answer["name"]: np.array(answer["data"], _DATATYPES[answer["datatype"]]).reshape(
                answer["shape"]
            )
            for answer in answers
        }

    def ask_grpc(self, photos: NDArray[Any], *outputs: str) -> dict[str, NDArray[Any]]:
        """The same over gRPC, tensors as raw bytes."""
        image = tritonclient.grpc.InferInput("image", list(photos.shape), "UINT8")
        image.set_data_from_numpy(photos)
        wanted = [tritonclient.grpc.InferRequestedOutput(name) for name in outputs]
        options = [("grpc.enable_http_proxy", 0)]
        with tritonclient.grpc.InferenceServerClient(
            f"{_HERE}:{self.grpc_port}", channel_args=options
        ) as client:
            answer = client.infer(self.model, [image], outputs=wanted or None)
        return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}

    def _call(self, path: str, body: bytes | None) -> Any:
        url = f"http://{_HERE}:{self.http_port}{path}"
        call = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with _opener.open(call, timeout=_WAIT) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code} {error.read().decode()}") from None
        return json.loads(content) if content else None


def request(photos: NDArray[Any], *outputs: str) -> dict[str, Any]:
    """A request in plain JSON.

    Args:
      photos: uint8 [batch, height, width, 3].
      outputs: names; none: all.
    """
    image = {"name": "image", "shape": list(photos.shape), "datatype": "UINT8"}
    asked: dict[str, Any] = {"inputs": [{**image, "data": photos.ravel().tolist()}]}
    if outputs:
        asked["outputs"] = [{"name": name} for name in outputs]
    return asked


def environment(client: Path) -> Path:
    """A virtual environment with a client's packages, which do not fit the project's.

    Args:
      client: its folder, with requirements.txt.

    Raises:
      Unavailable: the packages cannot be had.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    debian.need(uv)
    pins = client / "requirements.txt"
    wanted = f"the packages of {client.name}"
    # Not that of `.venv`, which goes with the checkout.
    interpreter = Path(sys.executable).resolve()

    def install(making: Path) -> None:
        venv = making / "venv"
        create = [uv, "venv", "--relocatable", "--python", str(interpreter), str(venv)]
        _building.get(create, f"an environment for {wanted}")
        install = [uv, "pip", "install", "--require-hashes", "--no-deps", "-r", str(pins)]
        _building.get([*install, "--python", str(venv / "bin" / "python")], wanted)

    python = "python{}.{}".format(*sys.version_info)
    where = hashlib.sha256(str(interpreter).encode()).hexdigest()[:8]
    return _building.kept(f"{client.name}-{python}-{where}", [pins], install) / "venv"


def free_ports() -> tuple[int, int]:
    """One for HTTP and one for gRPC."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind((_HERE, 0))
        http_port, grpc_port = (probe.getsockname()[1] for probe in probes)
        return http_port, grpc_port


@contextmanager
def running(
    command: Sequence[str | Path], work: Path, variables: Mapping[str, str], server: Server
) -> Iterator[Server]:
    """Runs a server until the end of the block.

    Args:
      command: starts it, as one process that stays.
      work: its working folder, where its log goes too.
      variables: added to this process's environment; Python's are left out of that.
      server: what the command is to become.

    Raises:
      RuntimeError: it did not come up; the end of its log.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    log = work / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=work, env={**inherited, **variables}, stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + _WAIT
        while not _ready(server):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{Path(command[0]).name} failed: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(server: Server) -> bool:
    try:
        server.get(f"/v2/models/{server.model}/ready")
        server.get("/v2/health/ready")
    except (OSError, RuntimeError):
        return False
    return True
