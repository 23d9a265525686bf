"""Runs a module whose gRPC server must listen on loopback alone.

Beam's servers listen on all addresses, and have no option for it:
``python -m tests.support.programs.on_loopback MODULE [ARGUMENT ...]``.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import grpc

_make_server = grpc.server


def _server(*arguments: Any, **options: Any) -> grpc.Server:
    server = _make_server(*arguments, **options)
    add_port = server.add_insecure_port

    def add_loopback_port(address: str) -> int:
        port: int = add_port(f"127.0.0.1:{address.rpartition(':')[2]}")
        return port

    server.add_insecure_port = add_loopback_port
    return server


if __name__ == "__main__":
    grpc.server = _server
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
