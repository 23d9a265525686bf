"""The SDK's client, with time limits, and answers checked to be JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kfp
import kfp_server_api
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials

from kubeflow import errors
from pipeline.errors import UserError

# There in every pod; holds the pod's namespace.
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the server is and who asks.

    Attributes:
      host: URL; None leaves it to the SDK: ``KF_PIPELINES_ENDPOINT``, own cluster, kubeconfig.
      namespace: of the user, on servers with several; None otherwise.
      token_file: file with a bearer token.
      ca_cert: file with the certificate that signs the server's.
      timeout: longest wait for one answer, seconds.
    """

    host: str | None = None
    namespace: str | None = None
    token_file: Path | None = None
    ca_cert: Path | None = None
    timeout: float = 30.0


class _Client(kfp.Client):
    """The SDK's client, whose constructor would ask for the server's health without limit."""

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        return SimpleNamespace(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> Any:
        config = super()._load_config(*args, **kwargs)
        # A connection is tried twice. What was sent is not sent again: it may have had its effect.
        config.retries = urllib3.Retry(connect=1, read=0, status=0, other=0, redirect=3)
        return config


def connect(connection: Connection) -> kfp.Client:
    """The SDK's client for a server, which is not yet asked anything.

    Raises:
      UserError: if no server is given, or a named file is missing.
    """
    kube_config = os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"
    sources = (connection.host, os.environ.get("KF_PIPELINES_ENDPOINT"))
    if not any(sources) and not IN_CLUSTER.exists() and not Path(kube_config).exists():
        raise UserError(
            "No server is given; pass --host URL or set KF_PIPELINES_ENDPOINT, for example "
            "http://localhost:8080 after kubectl port-forward svc/ml-pipeline-ui 8080:80."
        )
    if connection.ca_cert and not connection.ca_cert.is_file():
        raise UserError(
            f"There is no file {connection.ca_cert}; --ca-cert takes a certificate file."
        )
    credentials = None
    if connection.token_file:
        try:
            connection.token_file.read_text()
        except OSError as error:
            raise UserError(
                f"Cannot read the token in {connection.token_file}: {error.strerror}."
            ) from None
        # Reads the file at each request: tokens live an hour, and a run may take longer.
        credentials = ServiceAccountTokenVolumeCredentials(str(connection.token_file))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        client = _Client(
            host=connection.host,
            credentials=credentials,
            ssl_ca_cert=str(connection.ca_cert) if connection.ca_cert else None,
        )
    rest = client._healthz_api.api_client.rest_client  # shared by all services
    rest.request = functools.partial(_request, rest.request, connection.timeout)
    return client


def _request(plain: Any, timeout: float, *args: Any, **kwargs: Any) -> Any:
    """A request with a time limit, whose answer must be JSON: else the SDK makes empty objects.

    Raises:
      errors.NotJson: if it is something else.
    """
    # A pair, because the SDK drops a single number that is not an int.
    kwargs["_request_timeout"] = kwargs.get("_request_timeout") or (timeout, timeout)
    try:
        response = plain(*args, **kwargs)
    except kfp_server_api.ApiException as error:
        # The SDK decodes the body, and stumbles where there is none or it is not UTF-8.
        error.body = (error.body or b"").decode(errors="replace").encode()
        raise
    try:
        json.loads(response.data)
    except ValueError:
        raise errors.NotJson(response.data.decode(errors="replace")) from None
    return response
