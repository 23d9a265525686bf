"""The metadata store of runs on the cluster: a server by Secret, or a file on the volume."""

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
    """How to reach the store; with TLS, through a relay that ends with this process.

    Args:
      kind: ``mysql`` or ``postgresql``, whose server and password are in the environment, or
        ``sqlite``.
      output_root: folder that holds the SQLite file.
      environment: with METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD; _CERTIFICATES if the
        certificates are not where a pod has them.
      tls: as the setting ``metadata.tls`` says.

    Raises:
      UserError: if something of the environment is missing or wrong.
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
    """Checks that the store can be used, and makes its tables where there are none yet.

    Two tasks that make them at the same time get into each other's way; TFX's class tries again.

    Args:
      kind: as for `connection`, like the others.
      output_root: that may hold the SQLite file.
      tls: what is asked for.
      environment: with the login.

    Returns:
      How to reach it.

    Raises:
      UserError: it is a file that cannot be used, or a server that refuses; says what to do.
      ConnectionError: one sentence, if the server cannot be reached or does not serve now.
    """
    if kind == "sqlite":
        run_folder.check_metadata(output_root)
        config = connection(kind, output_root)
        with metadata.Metadata(config):
            return config
    server = _server(kind, environment, tls)
    databases.check_way(server)
    relay = _relay(server)
    databases.check_login(server, relay)
    config = _config(server, relay)
    try:
        with metadata.Metadata(config):
            databases.allow_long_values(server, relay)
            return config
    except RuntimeError as error:
        said = errors.first_line(error).rpartition("error: ")[2]  # behind what TFX says
        if any(words in said for words in _DENIED):
            raise databases.no_rights(server, said) from None
        raise ConnectionError(
            f"{server} lets the user {server.user!r} in, but its database {server.database!r} "
            f"cannot be used as a metadata store ({said})"
        ) from None


def _server(kind: str, environment: Mapping[str, str], tls: str) -> Server:
    missing = [name for name in ENVIRONMENT.values() if not environment.get(name)]
    if missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment; "
            "the Secret that metadata.secret names must hold these."
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
        ml_metadata_postgresql.mend()
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
    """As it must stand in libpq's connection string, into which ml-metadata puts it unchanged."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
