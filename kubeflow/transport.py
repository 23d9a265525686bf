"""One request to the server: bounded in time and size, and sent to no other host."""

from __future__ import annotations

import queue
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any

import urllib3

from pipeline.core.errors import UserError

MOST_BYTES = 64 * 2**20  # of an answer; a list of runs has some megabytes at most
_MOST_REDIRECTS = 3
_BLOCK = 2**16


class Pool:
    """Stands in for urllib3's PoolManager where the SDK sends its requests.

    urllib3 limits each wait for a byte, not the whole: a server that sends one byte now and then
    holds it for ever. It follows a redirect to any host.
    """

    def __init__(
        self, pool: urllib3.PoolManager, timeout: float, secret: Callable[[], str | None]
    ) -> None:
        """Wraps a pool.

        Args:
          pool: that does the work.
          timeout: longest wait for a whole answer, redirects included, seconds.
          secret: gives what must not be seen in an answer: the token, which some servers repeat.
        """
        self._pool, self._timeout, self._secret = pool, timeout, secret

    def request(self, method: str, url: str, **how: Any) -> urllib3.HTTPResponse:
        """Sends a request, and returns the whole answer.

        Raises:
          UserError: if the answer is too large, or leads elsewhere.
          urllib3.exceptions.HTTPError: as urllib3 does.
        """
        answers: queue.SimpleQueue[urllib3.HTTPResponse | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._follow(method, url, how))
            except Exception as error:
                answers.put(error)

        # No limit of a socket's covers the whole, so the work is left behind when time is up.
        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=self._timeout)
        except queue.Empty:
            raise urllib3.exceptions.ReadTimeoutError(
                None,  # type: ignore[arg-type]
                url,
                "no whole answer in time",
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _follow(self, method: str, url: str, how: dict[str, Any]) -> urllib3.HTTPResponse:
        # Two attempts at a connection must fit.
        limit = urllib3.Timeout(connect=0.45 * self._timeout, read=self._timeout)
        how = {**how, "timeout": limit, "preload_content": False, "redirect": False}
        for _ in range(1 + _MOST_REDIRECTS):
            response = self._pool.request(method, url, **how)
            answer = self._read(response, url)
            location = response.get_redirect_location()
            if not location:
                return answer
            url = _next(url, location)
            if method == "GET" or response.status == 303:
                method = "GET"
                for key in ("fields", "body", "encode_multipart"):  # the address holds it all
                    how.pop(key, None)
        raise UserError(
            f"The server at {_origin(url)} redirects again and again; check --host, with its path "
            "if it has one."
        )

    def _read(self, response: urllib3.BaseHTTPResponse, url: str) -> urllib3.HTTPResponse:
        content = bytearray()
        try:
            for chunk in response.stream(_BLOCK):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise UserError(
                        f"The server at {_origin(url)} sends an answer of more than "
                        f"{MOST_BYTES // 2**20} MB, which is none of Kubeflow Pipelines; check "
                        "--host."
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
    """Where a redirect leads, unless to another host: that would get the token, or what is sent."""
    here = urllib.parse.urlsplit(url)
    try:
        target = urllib.parse.urljoin(url, location)
        there = urllib.parse.urlsplit(target)
        secured = (here.scheme, there.scheme) == ("http", "https")
        if there.hostname == here.hostname and (
            secured or (there.scheme, there.port) == (here.scheme, here.port)
        ):
            return target
        where = _origin(target)
    except ValueError:
        where = "an address that is none"
    raise UserError(
        f"The server at {_origin(url)} redirects to {where}, and nothing is sent there; pass a "
        "token with --token-file if that is a login page, or that address with --host if it is the "
        "server's."
    )


def _origin(url: str) -> str:
    """Scheme, host and port of an address, without a user's name and password."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
