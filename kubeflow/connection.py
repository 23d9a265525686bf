"""The connection to a server: its settings, and the SDK's client with time limits."""

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
# Exists in every pod; contains the pod's namespace.
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclasses.dataclass(frozen=True)
class Connection:
    """Address of a server and credentials for it.

    Attributes:
      host: URL; None lets the SDK choose: ``KF_PIPELINES_ENDPOINT``, own cluster, kubeconfig.
      namespace: the user's namespace on a multi-user server; None otherwise.
      token_file: file with a bearer token.
      ca_cert: file with the CA certificate to verify the server with.
      timeout: time limit per request, in seconds.
    """

    host: str | None = None
    namespace: str | None = None
    token_file: Path | None = None
    ca_cert: Path | None = None
    timeout: float = 30.0

    def check(self) -> None:
        """Check everything that needs no request; warn if others can read the token.

        Raises:
          UserError: if there is no address, or the address or a file is invalid.
        """
        kube_config = os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"
        endpoint = os.environ.get(_ENDPOINT)
        if self.host:
            _check_address("--host", self.host)
        elif endpoint:
            _check_address(_ENDPOINT, endpoint)
        elif not IN_CLUSTER.exists() and not Path(kube_config).exists():
            raise UserError(
                f"No server given; pass --host URL or set {_ENDPOINT}, for example "
                "http://localhost:8080 after kubectl port-forward svc/ml-pipeline-ui 8080:80."
            )
        if self.ca_cert and not self.ca_cert.is_file():
            raise UserError(f"--ca-cert {self.ca_cert} is not a file; specify a CA certificate.")
        if self.token_file:
            token = TokenFile(self.token_file)
            token.read()
            if warning := token.exposed():
                console.print_warning(warning)


def _check_address(source: str, host: str) -> None:
    example = "specify one such as http://localhost:8080"
    if "@" in host:  # do not print it
        raise UserError(
            f"{source} contains a user name or password, which Kubeflow Pipelines does not use; "
            "remove it, and pass a token with --token-file."
        )
    scheme, separator, _ = host.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise UserError(f"{source} is {host!r}, which is neither http:// nor https://; {example}.")
    try:
        parsed = urllib3.util.parse_url(host)
    except urllib3.exceptions.LocationParseError:
        parsed = None
    if not (parsed and parsed.host and host.isprintable()) or " " in host:
        raise UserError(f"{source} {host!r} is not a URL; {example}.")


def connect(connection: Connection) -> kfp.Client:
    """Create the SDK's client; sends no request.

    Args:
      connection: a connection that has been checked.
    """
    credentials = TokenFile(connection.token_file) if connection.token_file else None
    return kfp_client.connect(
        connection.host,
        credentials,
        str(connection.ca_cert) if connection.ca_cert else None,
        lambda pool: Pool(pool, connection.timeout, lambda: credentials and credentials.token),
        errors.NotJson,
    )
