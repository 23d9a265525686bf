"""The metadata store of runs on the cluster: a MySQL server by Secret, or a file on the volume."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from kubeflow.pods import ENVIRONMENT
from pipeline import errors
from pipeline.errors import UserError

_CONNECT_SECONDS = 20


def connection(
    kind: str, output_root: Path, environment: Mapping[str, str] = os.environ
) -> metadata_store_pb2.ConnectionConfig:
    """How to reach the store.

    Args:
      kind: ``mysql``, whose server and password are in the environment, or ``sqlite``.
      output_root: folder that holds the SQLite file.
      environment: with METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD.

    Raises:
      UserError: if something of the environment is missing or wrong.
    """
    if kind == "sqlite":
        return metadata.sqlite_metadata_connection_config(str(output_root / "metadata.sqlite"))
    missing = [name for name in ENVIRONMENT.values() if not environment.get(name)]
    if missing:
        raise UserError(
            f"The metadata store needs {', '.join(missing)} in the environment; "
            "the Secret that metadata.secret names must hold these."
        )
    values = {key: environment[name] for key, name in ENVIRONMENT.items()}
    if not values["port"].isdecimal():
        raise UserError(f"METADATA_PORT is {values['port']!r}; it must be a number, such as 3306.")
    return metadata.mysql_metadata_connection_config(
        host=values["host"],
        port=int(values["port"]),
        database=values["database"],
        username=values["user"],
        password=values["password"],
    )


def open_store(config: metadata_store_pb2.ConnectionConfig) -> None:
    """Checks that the store can be used, and makes its tables where there are none yet.

    Two tasks that make them at the same time get into each other's way; TFX's class tries again.

    Raises:
      ConnectionError: one sentence, if nothing listens there or the login is refused. ml-metadata
        itself says neither.
    """
    host, port = config.mysql.host, config.mysql.port
    try:
        if config.HasField("mysql"):
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"the metadata server {host}:{port} cannot be reached ({error.strerror or error})"
        ) from None
    try:
        with metadata.Metadata(config):
            pass
    except RuntimeError as error:
        if not config.HasField("mysql"):
            raise
        raise ConnectionError(
            f"the metadata server {host}:{port} does not let user {config.mysql.user!r} use the "
            f"database {config.mysql.database!r}; check the Secret that metadata.secret names "
            f"({errors.first_line(error)})"
        ) from None
