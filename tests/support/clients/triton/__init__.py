"""NVIDIA's Triton Inference Server, from the package nvidia-pytriton, on the processor.

The package has no backend for ONNX. `model.py` is one under the same name, so that the server reads
a model repository as it is.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import Unavailable

from .. import _v2

_HERE = Path(__file__).parent


@contextmanager
def serving(repository: Path) -> Iterator[_v2.Server]:
    """Serves the only model of a model repository until the end of the block.

    Raises:
      RuntimeError: it does not load.
      Unavailable: the server cannot be had.
    """
    python = sysconfig.get_python_version()
    site_packages = _v2.environment(_HERE) / "lib" / f"python{python}" / "site-packages"
    triton = site_packages / "pytriton" / "tritonserver"
    stub = triton / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.exists():
        raise Unavailable(f"nvidia-pytriton has nothing for Python {python}")
    python_library = _python_library()
    (model,) = (path.name for path in repository.iterdir())
    http_port, grpc_port = _v2.free_ports()
    bundled = site_packages / "nvidia_pytriton.libs"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        # The stub embeds a Python: it looks for python3, and has to take the library of that one.
        libraries = work / "libraries"
        libraries.mkdir()
        for name in (python_library.name, *(path.name for path in bundled.glob("libpython*"))):
            (libraries / name).symlink_to(python_library)
        variables = {
            "LD_LIBRARY_PATH": f"{libraries}:{bundled}",
            "PATH": f"{sys.base_prefix}/bin:{os.environ['PATH']}",
        }
        backends = work / "backends"
        shutil.copytree(triton / "backends" / "python", backends / "python")
        shutil.copy(stub, backends / "python")
        (backends / "onnxruntime").mkdir()
        shutil.copy(_HERE / "model.py", backends / "onnxruntime")
        # Some stubs read no PYTHONPATH, but all import from the backend's folder.
        for package in site_packages.iterdir():
            (backends / "onnxruntime" / package.name).symlink_to(package)
        command: list[str | Path] = [
            triton / "bin" / "tritonserver",
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            "--disable-auto-complete-config",  # what config.pbtxt leaves out stays out
            "--http-address=127.0.0.1",
            f"--http-port={http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={grpc_port}",
            "--allow-metrics=false",
        ]
        server = _v2.Server(http_port, grpc_port, model)
        with _v2.running(command, work, variables, server):
            yield server


def _python_library() -> Path:
    name, place, machine = map(sysconfig.get_config_var, ("INSTSONAME", "LIBDIR", "MULTIARCH"))
    for library in (Path(place, name), Path(place, machine or "", name)):
        if library.suffix != ".a" and library.exists():
            return library
    raise Unavailable(f"this Python has no shared library {name} in {place}")
