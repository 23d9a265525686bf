"""What goes wrong between us and a Kubeflow Pipelines server, said for people."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import kfp_server_api
import urllib3.exceptions

from pipeline.core.errors import UserError


class ServerError(UserError):
    """The server did not answer, or failed; asking again may help."""


class NotJson(Exception):
    """An answer that is no JSON; holds its text."""


@dataclass(frozen=True)
class Limits:
    """What the sentences name: address, time limit in seconds, namespace."""

    host: str
    timeout: float
    namespace: str | None


@contextlib.contextmanager
def sentences(doing: str, limits: Limits) -> Iterator[None]:
    """Turns what urllib3 and the SDK raise into UserErrors.

    Args:
      doing: what is tried, as in "listing the runs".
      limits: what the sentences name.

    Raises:
      ServerError: where asking again may help.
      UserError: where it does not.
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
            f"The server at {limits.host} answers as Kubeflow Pipelines does not "
            f"({_short(str(error))!r}) when {doing}; check --host, and whether a login page stands "
            f"before it (--token-file)."
        ) from error
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:  # by which the SDK, or we, stumble over JSON of another shape
        raise UserError(_strange(f"{type(error).__name__}: {error}", doing, limits)) from error


def _unreachable(error: urllib3.exceptions.HTTPError, doing: str, limits: Limits) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, urllib3.exceptions.ReadTimeoutError):
        return (
            f"The server at {limits.host} gave no answer within {limits.timeout:g} s when {doing}; "
            f"try again, or allow more with --request-timeout."
        )
    if isinstance(reason, urllib3.exceptions.SSLError):
        return _untrusted(str(reason), limits)
    if isinstance(
        reason, urllib3.exceptions.LocationParseError | urllib3.exceptions.LocationValueError
    ):
        return f"--host {limits.host!r} is no URL; give one such as http://localhost:8080."
    if isinstance(reason, urllib3.exceptions.ConnectTimeoutError) and not isinstance(
        reason, urllib3.exceptions.NewConnectionError
    ):
        why = f"no connection within {limits.timeout:g} s"
    else:
        why = _short(str(reason).rpartition(": ")[2])
    return (
        f"Cannot reach a Kubeflow Pipelines server at {limits.host} ({why}); check --host, "
        f"and that a port-forward, if you use one, is running."
    )


def _strange(reason: str, doing: str, limits: Limits) -> str:
    return (
        f"The server at {limits.host} answers as Kubeflow Pipelines does not ({_short(reason)}) "
        f"when {doing}; check --host."
    )


def _untrusted(reason: str, limits: Limits) -> str:
    return (
        f"No trusted connection to {limits.host} ({_short(reason)}); "
        f"pass the certificate that signs it with --ca-cert, or http:// if it has no TLS."
    )


def _refused(error: kfp_server_api.ApiException, doing: str, limits: Limits) -> str:
    status, said = error.status, _message(error)
    where = f" in the namespace {limits.namespace!r}" if limits.namespace else ""
    if not status:  # the SDK reports TLS trouble so, and values that it cannot read
        reason = str(error.reason)
        if reason.startswith("SSLError"):
            return _untrusted(reason, limits)
        return _strange(reason, doing, limits)
    if status == 401:
        return (
            f"The server at {limits.host} does not know you (401: {said}) when {doing}; "
            f"pass a fresh token with --token-file."
        )
    if status == 403:
        return (
            f"You have no rights{where} on {limits.host} for {doing} (403: {said}); "
            f"check --namespace, or ask an administrator for the role kubeflow-edit there."
        )
    if status == 404:
        return (
            f"The server at {limits.host} does not find what it needs{where} for {doing} "
            f"(404: {said}); check --namespace and the names you gave."
        )
    if status >= 500:
        return (
            f"The server at {limits.host} failed when {doing} ({status}: {said}); "
            f"try again, and look at the log of its deployment ml-pipeline if it goes on."
        )
    hint = ""
    if status == 400 and doing.startswith("uploading"):
        # The upload handler answers 400 to everything, missing rights included.
        hint = "; it says the same when you have no rights, so check --namespace too"
    return f"The server at {limits.host} refused {doing} ({status}: {said}){hint}."


def _message(error: kfp_server_api.ApiException) -> str:
    """The sentence in an error answer of the API, of the upload handler, or of any proxy."""
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
