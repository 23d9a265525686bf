"""Refuse requests that other web sites make through a visitor's browser.

Any web site can make a browser send requests to any address. With DNS rebinding, the site's name
resolves to this machine and the browser sees a single site, so the host name in a request must be
one of the page's own. Cross-site posts are refused by their ``Origin`` and ``Sec-Fetch-Site``
headers.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware that refuses foreign requests with status 403 and ``error``, a sentence.

    Args:
      app: the application.
      host: the host name or address that the server was started with.
      local: whether the server listens only on a loopback address.
    """

    def __init__(self, app: ASGIApp, host: str, local: bool) -> None:
        self._app, self._local = app, local
        self._names = {"localhost", host.lower()}
        if not local:
            self._names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] == "http" and (reason := self._reason(scope)):
            await JSONResponse({"error": reason}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _reason(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                "The host name in this request is not the page's own. Open the page at the address"
                " printed at startup, or restart it with --host NAME."
            )
        if scope["method"] in _SAFE_METHODS:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.lower() != f"{scope['scheme']}://{host.lower()}"
        if foreign or site not in ("same-origin", "none"):
            return "Other web sites may not send photos to this page. Open the page itself."
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
        try:  # DNS rebinding needs a name, so addresses are safe
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local
