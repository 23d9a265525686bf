"""The client of the Kubeflow Pipelines SDK: timeouts, no silent retries, an error unless JSON.

For kfp 2.5 (compatible stack) and 2.16 (current). The SDK's client waits for the server's health
check without a timeout, has no timeouts on requests either, and turns a response that is not JSON
into an empty object.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kfp
import kfp_server_api
import urllib3

from pipeline.compat import Part

PARTS = (
    Part("kfp.client.client", "Client.get_kfp_healthz", ("self", "sleep_duration")),
    Part("kfp.client.client", "Client._load_config"),
    Part("kfp_server_api", "HealthzServiceApi"),
    Part("kfp_server_api.rest", "RESTClientObject.request"),
)


class _Client(kfp.Client):
    """The SDK's client without the health check in its constructor, and with few retries."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        return SimpleNamespace(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> Any:
        config = super()._load_config(*args, **kwargs)
        # Retry only the connection, since a request that was sent may have had an effect.
        config.retries = urllib3.Retry(
            connect=1, read=0, status=0, other=0, redirect=0, respect_retry_after_header=False
        )
        return config


def connect(
    host: str | None,
    credentials: Any,
    ca_cert: str | None,
    pool: Callable[[Any], Any],
    not_json: Callable[[str], Exception],
) -> kfp.Client:
    """Create a client for a server, without sending a request.

    Args:
      host: URL; None leaves it to the SDK.
      credentials: the SDK's credentials, or None.
      ca_cert: file with the CA certificate of the server, or None.
      pool: maps the SDK's connection pool (urllib3) to the one to use.
      not_json: maps the text of a response that is not JSON to the error to raise.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        client = _Client(host=host, credentials=credentials, ssl_ca_cert=ca_cert)
    rest = client._healthz_api.api_client.rest_client  # shared by all services
    rest.pool_manager = pool(rest.pool_manager)
    rest.request = functools.partial(_request, rest.request, not_json)
    return client


def _request(plain: Any, not_json: Callable[[str], Exception], *args: Any, **kwargs: Any) -> Any:
    """Send a request whose response must be JSON."""
    try:
        response = plain(*args, **kwargs)
    except kfp_server_api.ApiException as error:
        # The SDK fails to decode a body that is missing or not UTF-8.
        error.body = (error.body or b"").decode(errors="replace").encode()
        raise
    try:
        json.loads(response.data)
    except (ValueError, RecursionError):
        raise not_json(response.data.decode(errors="replace")) from None
    return response
