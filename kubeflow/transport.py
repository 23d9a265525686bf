"""HTTP requests with limits for time and size that never go to another host."""

from __future__ import annotations

import queue
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any

import urllib3

from pipeline.core.errors import UserError

MAX_BYTES = 64 * 2**20  # per response; a list of runs has a few megabytes
_MAX_REDIRECTS = 3
_BLOCK = 2**16


class Pool:
    """Replaces urllib3's PoolManager in the SDK.

    urllib3 limits the time between two bytes, not the total: a server that trickles bytes can block
    it forever. It also follows redirects to any host.
    """

    def __init__(
        self, pool: urllib3.PoolManager, timeout: float, secret: Callable[[], str | None]
    ) -> None:
        """Wrap a pool.

        Args:
          pool: the pool that sends the requests.
          timeout: time limit for a complete response including redirects, in seconds.
          secret: returns the token, to remove it from responses, because some servers repeat it.
        """
        self._pool, self._timeout, self._secret = pool, timeout, secret

    def request(self, method: str, url: str, **options: Any) -> urllib3.HTTPResponse:
        """Send a request and return the complete response.

        Raises:
          UserError: if the response is too large, or redirects to another host.
          urllib3.exceptions.HTTPError: as in urllib3.
        """
        answers: queue.SimpleQueue[urllib3.HTTPResponse | Exception] = queue.SimpleQueue()

        def send() -> None:
            try:
                answers.put(self._follow(method, url, options))
            except Exception as error:
                answers.put(error)

        # Sockets have no limit for the total time, so the thread is abandoned when time is up.
        threading.Thread(target=send, daemon=True).start()
        try:
            answer = answers.get(timeout=self._timeout)
        except queue.Empty:
            pool: Any = None  # only used by retries of urllib3
            raise urllib3.exceptions.ReadTimeoutError(
                pool, url, "no complete response in time"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _follow(self, method: str, url: str, options: dict[str, Any]) -> urllib3.HTTPResponse:
        # Leave time for two attempts to connect.
        limit = urllib3.Timeout(connect=0.45 * self._timeout, read=self._timeout)
        options = {**options, "timeout": limit, "preload_content": False, "redirect": False}
        for _ in range(1 + _MAX_REDIRECTS):
            response = self._pool.request(method, url, **options)
            answer = self._read(response, url)
            location = response.get_redirect_location()
            if not location:
                return answer
            url = _next(url, location)
            if method == "GET" or response.status == 303:
                method = "GET"
                for key in ("fields", "body", "encode_multipart"):  # the new address has them
                    options.pop(key, None)
        raise UserError(
            f"The server at {_origin(url)} redirects too many times; check --host, including the "
            "path if there is one."
        )

    def _read(self, response: urllib3.BaseHTTPResponse, url: str) -> urllib3.HTTPResponse:
        content = bytearray()
        try:
            for chunk in response.stream(_BLOCK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise UserError(
                        f"The server at {_origin(url)} sent a response of more than "
                        f"{MAX_BYTES // 2**20} MB, which is too large for Kubeflow Pipelines; "
                        "check --host."
                    )
        except UserError:
            response.close()
            raise
        response.release_conn()
        reason, secret = response.reason or "", self._secret()
        if secret:
            content = content.replace(secret.encode(), b"(token)")
            reason = reason.replace(secret, "(token)")
        return urllib3.HTTPResponse(
            bytes(content), status=response.status, reason=reason, preload_content=True
        )


def _next(url: str, location: str) -> str:
    """Return the target of a redirect, unless it is another host, which would get the token.

    Raises:
      UserError: if it is another host, port or scheme; http to https is fine.
    """
    source = urllib.parse.urlsplit(url)
    try:
        address = urllib.parse.urljoin(url, location)
        target = urllib.parse.urlsplit(address)
        is_upgrade = (source.scheme, target.scheme) == ("http", "https")
        if target.hostname == source.hostname and (
            is_upgrade or (target.scheme, target.port) == (source.scheme, source.port)
        ):
            return address
        where = _origin(address)
    except ValueError:
        where = "an invalid address"
    raise UserError(
        f"The server at {_origin(url)} redirects to {where}, which is not followed; if that is a "
        "login page, pass --token-file; if that is the server, pass its address with --host."
    )


def _origin(url: str) -> str:
    """Return the scheme, host and port of an address, without credentials."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
