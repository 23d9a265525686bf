"""The server of the web page with little patience and an application that answers three bytes."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pipeline.inference import web_server

LARGE = 30_000_000  # bytes of the answer to /large


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    body = bytes(LARGE if scope["path"] == "/large" else 3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Prints its port, and serves until it is ended."""
    limits = {"PATIENCE": 0.5, "WHOLE_REQUEST": 1.2, "_CHECK_INTERVAL": 0.1, "_MAX_CONNECTIONS": 8}
    for name, value in limits.items():
        setattr(web_server, name, value)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    web_server.run(app, listener)


if __name__ == "__main__":
    main()
