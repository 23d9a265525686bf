"""The HTTP server of the page: limits on connections and their duration, and a quick shutdown.

uvicorn limits neither the duration of a request nor the number of connections, and asyncio prints a
traceback for every connection that it cannot accept for lack of file descriptors. Here, a
connection is closed if its client neither sends its request nor reads the response for a while. If
there are too many connections, the one with the longest silence is closed.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.core import console

PATIENCE = 10  # seconds without a byte
WHOLE_REQUEST = 120  # seconds from the first byte of a request, or of a response, to its last
_CHECK_INTERVAL = 1  # seconds
# A browser opens six connections. If few files may be open, the model needs most of them.
_MAX_CONNECTIONS, _SHARE_OF_FILES = 32, 8
# asyncio accepts a whole backlog at once, before any of these connections can be closed. So the
# backlog starts small, and grows once the server runs.
_ACCEPTED_AT_ONCE, _QUEUE = 8, 128
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Sent with every response, errors included: load nothing from other hosts, do not show the page in
# another site's frame, do not guess the content type.
_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; img-src data:; connect-src 'self'; style-src 'unsafe-inline';"
        " script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Serves an application on a listening socket until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=_HEADERS,
        backlog=_ACCEPTED_AT_ONCE,
    )
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(ErrorHandler())
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)


class Connection(H11Protocol):
    """One connection, with limits.

    This relies on internals of uvicorn: `connections`, the set of open connections, and `cycle`,
    the current request, with `more_body` (its body is incomplete) and `response_complete`.
    tests/test_web_limits.py fails if they change.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._started = self._last_progress = self.loop.time()
        self._unsent = 0
        self._next_check = self.loop.call_later(_CHECK_INTERVAL, self._check)
        open_ = [each for each in self.connections if not each.transport.is_closing()]
        if len(open_) > max_connections():
            waiting = [
                each for each in open_ if isinstance(each, Connection) and each.waits_for_client
            ]
            min(waiting, key=lambda each: each._last_progress, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        self._last_progress = self.loop.time()
        if self.cycle is not None and self.cycle.response_complete:  # the next request
            self._started = self._last_progress
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # invalid data while the last response is being sent
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._started = self._last_progress = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_check.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Closes the connection at once, unless the server is working on its request."""
        if self.waits_for_client:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to send, or read, before the server can go on."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _check(self) -> None:
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._last_progress = unsent, now
        silent = now - self._last_progress > PATIENCE
        if self.waits_for_client and (silent or now - self._started > WHOLE_REQUEST):
            self.transport.abort()
        else:
            self._next_check = self.loop.call_later(_CHECK_INTERVAL, self._check)


def max_connections() -> int:
    """The maximum number of open connections."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(2, min(_MAX_CONNECTIONS, files // _SHARE_OF_FILES))


class ErrorHandler:
    """Exception handler of the event loop; warns only once that file descriptors ran out."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handles one error; see `asyncio.loop.set_exception_handler`."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _OUT_OF_FILES):
            loop.default_exception_handler(context)
        elif not self._warned:
            self._warned = True
            console.print_warning(
                "The page accepts no more connections for now, because it ran out of file "
                "descriptors or memory."
            )
