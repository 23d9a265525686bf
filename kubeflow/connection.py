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

from kubeflow import errors
from kubeflow.token_file import TokenFile
from kubeflow.transport import Pool
from pipeline import console
from pipeline.errors import UserError

_ENDPOINT = "KF_PIPELINES_ENDPOINT"  # the SDK's variable for the address
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

    def check(self) -> None:
        """Looks at what can be known before the server is asked; warns of a token others can read.

        Raises:
          UserError: if no server is given, the address is none, or a file is not as it must be.
        """
        kube_config = os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"
        endpoint = os.environ.get(_ENDPOINT)
        if self.host:
            _check_address("--host", self.host)
        elif endpoint:
            _check_address(_ENDPOINT, endpoint)
        elif not IN_CLUSTER.exists() and not Path(kube_config).exists():
            raise UserError(
                f"No server is given; pass --host URL or set {_ENDPOINT}, for example "
                "http://localhost:8080 after kubectl port-forward svc/ml-pipeline-ui 8080:80."
            )
        if self.ca_cert and not self.ca_cert.is_file():
            raise UserError(f"There is no file {self.ca_cert}; --ca-cert takes a certificate file.")
        if self.token_file:
            token = TokenFile(self.token_file)
            token.read()
            if warning := token.exposed():
                console.warn(warning)


def _check_address(source: str, host: str) -> None:
    example = "give one such as http://localhost:8080"
    if "@" in host:  # never shown
        raise UserError(
            f"{source} holds a user's name or password, which Kubeflow Pipelines does not take; "
            "leave them out, and pass a token with --token-file."
        )
    scheme, separator, _ = host.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise UserError(f"{source} is {host!r}, which is neither http:// nor https://; {example}.")
    try:
        parsed = urllib3.util.parse_url(host)
    except urllib3.exceptions.LocationParseError:
        parsed = None
    if not (parsed and parsed.host and host.isprintable()) or " " in host:
        raise UserError(f"{source} {host!r} is no URL; {example}.")


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


def connect(connection: Connection) -> kfp.Client:
    """The SDK's client for a server, which is not yet asked anything.

    Args:
      connection: that was checked.
    """
    credentials = TokenFile(connection.token_file) if connection.token_file else None
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        client = _Client(
            host=connection.host,
            credentials=credentials,
            ssl_ca_cert=str(connection.ca_cert) if connection.ca_cert else None,
        )
    rest = client._healthz_api.api_client.rest_client  # shared by all services
    rest.pool_manager = Pool(
        rest.pool_manager, connection.timeout, lambda: credentials and credentials.token
    )
    rest.request = functools.partial(_request, rest.request)
    return client


def _request(plain: Any, *args: Any, **kwargs: Any) -> Any:
    """A request whose answer must be JSON: else the SDK makes empty objects.

    Raises:
      errors.NotJson: if it is something else.
    """
    try:
        response = plain(*args, **kwargs)
    except kfp_server_api.ApiException as error:
        # The SDK decodes the body, and stumbles where there is none or it is not UTF-8.
        error.body = (error.body or b"").decode(errors="replace").encode()
        raise
    try:
        json.loads(response.data)
    except (ValueError, RecursionError):
        raise errors.NotJson(response.data.decode(errors="replace")) from None
    return response
