"""The client of the Kubeflow Pipelines SDK: time limits, no silent repetition, JSON or an error.

For kfp 2.5 (compatible stack) and 2.16 (current). Its constructor asks for the server's health
without limit, its requests have none either, and from an answer that is not JSON it makes an empty
object.
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
    """The SDK's client, whose constructor would ask for the server's health without limit."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        return SimpleNamespace(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> Any:
        config = super()._load_config(*args, **kwargs)
        # A connection is tried twice. What was sent is not sent again: it may have had its effect.
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
    """A client for a server, which is not yet asked anything.

    Args:
      host: URL; None leaves it to the SDK.
      credentials: as the SDK takes them, or None.
      ca_cert: file with the certificate that signs the server's, or None.
      pool: from the SDK's pool of connections (urllib3) to the one that is used.
      not_json: from the text of an answer that is not JSON to the error which is raised.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        client = _Client(host=host, credentials=credentials, ssl_ca_cert=ca_cert)
    rest = client._healthz_api.api_client.rest_client  # shared by all services
    rest.pool_manager = pool(rest.pool_manager)
    rest.request = functools.partial(_request, rest.request, not_json)
    return client


def _request(plain: Any, not_json: Callable[[str], Exception], *args: Any, **kwargs: Any) -> Any:
    """A request whose answer must be JSON."""
    try:
        response = plain(*args, **kwargs)
    except kfp_server_api.ApiException as error:
        # The SDK decodes the body, and stumbles where there is none or it is not UTF-8.
        error.body = (error.body or b"").decode(errors="replace").encode()
        raise
    try:
        json.loads(response.data)
    except (ValueError, RecursionError):
        raise not_json(response.data.decode(errors="replace")) from None
    return response
