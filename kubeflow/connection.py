"""The SDK's client, with time limits, and answers checked to be JSON."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import kfp
import urllib3

from kubeflow import errors
from kubeflow.token_file import TokenFile
from kubeflow.transport import Pool
from pipeline.compat import kfp_client
from pipeline.core import console
from pipeline.core.errors import UserError

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


def connect(connection: Connection) -> kfp.Client:
    """The SDK's client for a server, which is not yet asked anything.

    Args:
      connection: that was checked.
    """
    credentials = TokenFile(connection.token_file) if connection.token_file else None
    return kfp_client.connect(
        connection.host,
        credentials,
        str(connection.ca_cert) if connection.ca_cert else None,
        lambda pool: Pool(pool, connection.timeout, lambda: credentials and credentials.token),
        errors.NotJson,
    )
