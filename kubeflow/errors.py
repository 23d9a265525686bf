"""Turn errors of the connection and of the server into sentences for users."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import kfp_server_api
import urllib3.exceptions

from pipeline.core.errors import UserError


class ServerError(UserError):
    """The server did not respond, or failed; a retry may help."""


class NotJson(Exception):
    """A response is not JSON; contains its text."""


@dataclass(frozen=True)
class Limits:
    """Facts for the sentences: address, time limit in seconds, namespace."""

    host: str
    timeout: float
    namespace: str | None


@contextlib.contextmanager
def sentences(doing: str, limits: Limits) -> Iterator[None]:
    """Convert errors of urllib3 and the SDK to UserErrors.

    Args:
      doing: the attempted action, such as "listing the runs".
      limits: facts for the sentences.

    Raises:
      ServerError: if a retry may help.
      UserError: if it will not.
    """
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise ServerError(_unreachable(error, doing, limits)) from error
    except kfp_server_api.ApiException as error:
        if error.status and error.status >= 500:
            raise ServerError(_refused(error, doing, limits)) from error
        raise UserError(_refused(error, doing, limits)) from error
    except NotJson as error:
        raise UserError(
            f"The server at {limits.host} does not respond like Kubeflow Pipelines "
            f"({_short(str(error))!r}) when {doing}; check --host, and pass --token-file if the "
            f"server is behind a login page."
        ) from error
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:  # raised by the SDK or by us for JSON of an unexpected shape
        raise UserError(_strange(f"{type(error).__name__}: {error}", doing, limits)) from error


def _unreachable(error: urllib3.exceptions.HTTPError, doing: str, limits: Limits) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, urllib3.exceptions.ReadTimeoutError):
        return (
            f"The server at {limits.host} did not respond within {limits.timeout:g} s when {doing};"
            f" try again, or increase --request-timeout."
        )
    if isinstance(reason, urllib3.exceptions.SSLError):
        return _untrusted(str(reason), limits)
    if isinstance(
        reason, urllib3.exceptions.LocationParseError | urllib3.exceptions.LocationValueError
    ):
        return f"--host {limits.host!r} is not a URL; specify one such as http://localhost:8080."
    if isinstance(reason, urllib3.exceptions.ConnectTimeoutError) and not isinstance(
        reason, urllib3.exceptions.NewConnectionError
    ):
        why = f"no connection within {limits.timeout:g} s"
    else:
        why = _short(str(reason).rpartition(": ")[2])
    return (
        f"Cannot reach a Kubeflow Pipelines server at {limits.host} ({why}); check --host, "
        f"and that your port-forward is running, if you use one."
    )


def _strange(reason: str, doing: str, limits: Limits) -> str:
    return (
        f"The server at {limits.host} does not respond like Kubeflow Pipelines ({_short(reason)}) "
        f"when {doing}; check --host."
    )


def _untrusted(reason: str, limits: Limits) -> str:
    return (
        f"Cannot make a trusted connection to {limits.host} ({_short(reason)}); pass its CA "
        f"certificate with --ca-cert, or use http:// if the server has no TLS."
    )


def _refused(error: kfp_server_api.ApiException, doing: str, limits: Limits) -> str:
    status, message = error.status, _message(error)
    where = f" in the namespace {limits.namespace!r}" if limits.namespace else ""
    if not status:  # from the SDK, for TLS errors and values that it cannot parse
        reason = str(error.reason)
        if reason.startswith("SSLError"):
            return _untrusted(reason, limits)
        return _strange(reason, doing, limits)
    if status == 401:
        return (
            f"The server at {limits.host} requires a login (401: {message}) when {doing}; "
            f"pass a fresh token with --token-file."
        )
    if status == 403:
        return (
            f"Permission denied{where} on {limits.host} when {doing} (403: {message}); "
            f"check --namespace, or ask an administrator for the role kubeflow-edit there."
        )
    if status == 404:
        return (
            f"The server at {limits.host} found nothing{where} when {doing} (404: {message}); "
            f"check --namespace and the names you gave."
        )
    if status >= 500:
        return (
            f"The server at {limits.host} failed when {doing} ({status}: {message}); "
            f"try again, and if it keeps failing, see the log of its deployment ml-pipeline."
        )
    hint = ""
    if status == 400 and doing.startswith("uploading"):
        # The upload handler responds with 400 to everything, including missing permissions.
        hint = "; it says the same if you lack permission, so check --namespace too"
    return f"The server at {limits.host} rejected {doing} ({status}: {message}){hint}."


def _message(error: kfp_server_api.ApiException) -> str:
    """Extract the message from an error response of the API, the upload handler or a proxy."""
    body = error.body or ""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return _short(body) or str(error.reason)
    if isinstance(content, dict):
        body = (
            content.get("message") or content.get("error_message") or content.get("error") or body
        )
    return _short(str(body)) or str(error.reason)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= 160 else f"{line[:157]}...").rstrip(".")
