"""Who may ask the page: a browser or script that calls it by its own name, and no other site.

A foreign page can make a browser ask any address. If its name is made to mean this machine (DNS
rebinding) the browser takes the two for one site, so the name in the request must be one of the
page's own. And what a foreign page posts is refused by what the browser says of its origin.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_ONLY_READ = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware that answers 403 with ``error``, one sentence, to those who may not ask.

    Args:
      app: the application.
      host: the name or address that the page was started under.
      local: whether it listens on this machine alone.
    """

    def __init__(self, app: ASGIApp, host: str, local: bool) -> None:
        self._app, self._local = app, local
        self._names = {"localhost", host.lower()}
        if not local:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on, or refuses it."""
        if scope["type"] == "http" and (reason := self._reason(scope)):
            await JSONResponse({"error": reason}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _reason(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                "This page does not go by the name in the request; open it by the address that it"
                " was started with, or start it with --host NAME."
            )
        if scope["method"] in _ONLY_READ:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.lower() != f"{scope['scheme']}://{host.lower()}"
        if foreign or site not in ("same-origin", "none"):
            return "Another site must not send photos here; open the page itself."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if set(host) & set("@/?#\\"):
            return False
        if name.rstrip(".") in self._names:
            return True
        try:  # an address cannot be made to mean another machine
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local
