"""The server behind the page: how many may connect, how long they may take, and how it ends.

uvicorn bounds neither the time of a request nor the number of connections, and asyncio writes a
traceback for each connection that it has no descriptor for. So a connection whose turn it is (to
send its request, or to take the answer) may not be silent for long, and when too many are there the
one that has been silent longest makes room.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.core import console

PATIENCE = 10  # seconds without a byte
WHOLE_REQUEST = 120  # seconds from its first byte to its last; of an answer as well
_LOOK = 1  # seconds between two looks at a connection
# Browsers use six. Where a process may open few files, the model needs most of them.
_MOST, _SHARE_OF_FILES = 32, 8
# asyncio accepts as many in one go as may queue, before any of them can make room; so the queue
# becomes longer afterwards.
_ACCEPTED_AT_ONCE, _QUEUE = 8, 128
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Of every answer, also of those that say no. Nothing is loaded from elsewhere, no other site may
# show the page in a frame, and no browser guesses at what an answer is.
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


def run(app: Any, listener: socket.socket) -> None:
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
        asyncio.get_running_loop().set_exception_handler(Complaints())
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_QUEUE)


class Connection(H11Protocol):
    """One connection, with limits.

    What is used of uvicorn beside its interface: `connections`, the set of all, and of the request
    in work, `cycle`, whether its body is still coming (`more_body`) and whether it was answered
    (`response_complete`). tests/test_web_limits.py notices when they change.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self._moved = self.loop.time()
        self._unsent = 0
        self._next_look = self.loop.call_later(_LOOK, self._look)
        open_ = [each for each in self.connections if not each.transport.is_closing()]
        if len(open_) > most_connections():
            waiting = [each for each in open_ if isinstance(each, Connection) and each.waits]
            min(waiting, key=lambda each: each._moved, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        self._moved = self.loop.time()
        if self.cycle is not None and self.cycle.response_complete:  # the next request
            self._begun = self._moved
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # no request, and the answer to the last one is under way
            self.transport.abort()

    def on_response_complete(self) -> None:
        self._begun = self._moved = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends at once, unless a photo is in work."""
        if self.waits:
            self.transport.abort()
        else:
            super().shutdown()

    @property
    def waits(self) -> bool:
        """Whether it is the other side's turn."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _look(self) -> None:
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        if self.waits and (now - self._moved > PATIENCE or now - self._begun > WHOLE_REQUEST):
            self.transport.abort()
        else:
            self._next_look = self.loop.call_later(_LOOK, self._look)


def most_connections() -> int:
    """How many are open at once."""
    return max(2, min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE_OF_FILES))


class Complaints:
    """What the event loop says of errors: that there are no more descriptors, once and briefly."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Takes what asyncio hands to exception handlers."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _OUT_OF_FILES):
            loop.default_exception_handler(context)
        elif not self._said:
            self._said = True
            console.warn(
                "For want of open files or memory the page takes no more connections for now."
            )
