"""The metadata store of runs on the cluster: a server, or a SQLite file on the volume."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from kubeflow import databases, tls_relay
from kubeflow.databases import Server
from kubeflow.pods import CERTIFICATES, CERTIFICATES_VARIABLE, ENVIRONMENT
from pipeline.compat import ml_metadata_postgresql
from pipeline.core import errors, run_folder
from pipeline.core.errors import UserError

_DENIED = ("permission denied", "command denied")


def connection(
    kind: str,
    output_root: Path,
    environment: Mapping[str, str] = os.environ,
    tls: str = tls_relay.OFF,
) -> metadata_store_pb2.ConnectionConfig:
    """Return the connection to the store; with TLS, start a relay that ends with this process.

    Args:
      kind: ``mysql``, ``postgresql`` or ``sqlite``.
      output_root: folder of the SQLite file.
      environment: for a server, METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD, and
        optionally METADATA_CERTIFICATES, the folder of the certificates outside of a pod.
      tls: value of the setting ``metadata.tls``.

    Raises:
      UserError: if a variable is missing or wrong.
    """
    if kind == "sqlite":
        path = str(output_root / run_folder.METADATA)
        return metadata.sqlite_metadata_connection_config(path)
    server = _server(kind, environment, tls)
    return _config(server, _relay(server))


def open_store(
    kind: str,
    output_root: Path,
    tls: str = tls_relay.OFF,
    environment: Mapping[str, str] = os.environ,
) -> metadata_store_pb2.ConnectionConfig:
    """Check that the store works, and create its tables if there are none.

    If two tasks create them at the same time, one fails; TFX's class then retries.

    Args:
      kind: as in `connection`, like the other arguments.
      output_root: folder of the SQLite file.
      tls: value of the setting ``metadata.tls``.
      environment: login of the server.

    Returns:
      The connection.

    Raises:
      UserError: if the file is unusable, or the server rejects the login; says what to do.
      ConnectionError: if the server cannot be reached or is not available; one sentence.
    """
    if kind == "sqlite":
        run_folder.check_metadata(output_root)
        config = connection(kind, output_root)
        with metadata.Metadata(config):
            return config
    server = _server(kind, environment, tls)
    databases.check_network(server)
    relay = _relay(server)
    databases.check_login(server, relay)
    config = _config(server, relay)
    try:
        with metadata.Metadata(config):
            databases.allow_long_values(server, relay)
            return config
    except RuntimeError as error:
        message = errors.first_line(error).rpartition("error: ")[2]  # without TFX's prefix
        if any(words in message for words in _DENIED):
            raise databases.no_rights(server, message) from None
        raise ConnectionError(
            f"{server} accepts the login, but its database {server.database!r} cannot be used as a "
            f"metadata store ({message})"
        ) from None


def _server(kind: str, environment: Mapping[str, str], tls: str) -> Server:
    missing = [name for name in ENVIRONMENT.values() if not environment.get(name)]
    if missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment; "
            "add them to the Secret that metadata.secret names."
        )
    values = {key: environment[name] for key, name in ENVIRONMENT.items()}
    port = values.pop("port")
    if not port.isdecimal():
        default = 5432 if kind == tls_relay.POSTGRESQL else 3306
        raise UserError(f"METADATA_PORT is {port!r}; it must be a number, such as {default}.")
    certificates = Path(environment.get(CERTIFICATES_VARIABLE, CERTIFICATES))
    return Server(kind, port=int(port), tls=tls, certificates=certificates, **values)


def _relay(server: Server) -> Path | None:
    if server.tls == tls_relay.OFF:
        return None
    return tls_relay.start(server.kind, server.host, server.port, server.tls, server.certificates)


def _config(server: Server, relay: Path | None) -> metadata_store_pb2.ConnectionConfig:
    config = metadata_store_pb2.ConnectionConfig()
    if server.kind == tls_relay.POSTGRESQL:
        ml_metadata_postgresql.apply_workarounds()
        config.postgresql.host = _quoted(str(relay.parent) if relay else server.host)
        config.postgresql.port = relay.suffix[1:] if relay else str(server.port)
        config.postgresql.dbname = _quoted(server.database)
        config.postgresql.user = _quoted(server.user)
        config.postgresql.password = _quoted(server.password)
        config.postgresql.skip_db_creation = True
        return config
    if relay:
        config.mysql.socket = str(relay)
    else:
        config.mysql.host, config.mysql.port = server.host, server.port
    config.mysql.database = server.database
    config.mysql.user, config.mysql.password = server.user, server.password
    config.mysql.skip_db_creation = True
    return config


def _quoted(value: str) -> str:
    """Quote a value for libpq's connection string, into which ml-metadata puts it unchanged."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
