"""Check that ml-metadata can use a metadata server, and explain why not.

ml-metadata does not report the server's messages. The checks connect as it does: without TLS, or
through the relay of `kubeflow.tls_relay`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.native
import pymysql

from kubeflow import tls_relay
from pipeline.core.errors import UserError

_SECONDS = 20
_SECRET = "check the Secret that metadata.secret names"
_POSTGRESQL_INSTEAD = "use PostgreSQL (metadata.kind=postgresql)"
# Authentication plugins that ml-metadata's MySQL client lacks (google/ml-metadata#178).
_UNKNOWN_PLUGINS = ("caching_sha2_password", "sha256_password")


@dataclasses.dataclass(frozen=True)
class Server:
    """A MySQL or PostgreSQL server and a login for it."""

    kind: str
    host: str
    port: int
    database: str
    user: str
    password: str = dataclasses.field(repr=False)
    tls: str = tls_relay.OFF
    certificates: Path = Path()

    def __str__(self) -> str:
        return f"The metadata server {self.host}:{self.port}"


def check_network(server: Server) -> None:
    """Check that the server can be reached, with TLS if the settings ask for it.

    Raises:
      UserError: if the server's TLS does not satisfy the setting metadata.tls.
      ConnectionError: if nothing listens there, or the connection breaks.
    """
    setting = f"metadata.tls={server.tls}"
    try:
        if server.tls == tls_relay.OFF:
            socket.create_connection((server.host, server.port), timeout=_SECONDS).close()
            return
        trust = _trust(server)
        tls_relay.check(server.kind, server.host, server.port, trust)
    except tls_relay.NotOffered:
        raise UserError(
            f"{server} does not offer TLS, which {setting} requires; enable it on the server, or "
            "set metadata.tls to off."
        ) from None
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        if "not valid for" in reason:
            problem = "has a certificate for another host"
            remedy = "use the certificate's name as the host in the Secret, or set metadata.tls to "
            remedy += "verify-ca"
        else:
            problem = "has a certificate that is not trusted"
            remedy = f"add the certificate of its CA to the Secret, as {tls_relay.CA}"
        raise UserError(
            f"{server} {problem} ({reason}), but {setting} verifies it; {remedy}."
        ) from None
    except ssl.SSLError as error:
        raise ConnectionError(
            f"{server} failed the TLS handshake ({tls_relay.reason(error)})"
        ) from None
    except OSError as error:
        raise ConnectionError(f"{server} cannot be reached ({error.strerror or error})") from None


def _trust(server: Server) -> ssl.SSLContext:
    try:
        return tls_relay.context(server.tls, server.certificates)
    except OSError as error:
        raise UserError(
            f"metadata.tls is {server.tls}, but the certificates in the Secret cannot be used: "
            f"{error}; its keys {tls_relay.CA}, {tls_relay.CERTIFICATE} and {tls_relay.KEY} must "
            "be PEM."
        ) from None


def check_login(server: Server, relay: Path | None) -> None:
    """Check that ml-metadata can log in and use the database.

    Args:
      server: a server that `check_network` accepts.
      relay: socket of the relay; None without TLS.

    Raises:
      UserError: if the login or the database is wrong.
      ConnectionError: if the server is not available now.
    """
    (_ask_postgresql if server.kind == tls_relay.POSTGRESQL else _ask_mysql)(server, relay)


def _ask_mysql(server: Server, relay: Path | None) -> None:
    address: dict[str, Any] = {"host": server.host, "port": server.port, "ssl_disabled": True}
    if relay:
        address = {"unix_socket": str(relay)}
    login = {"user": server.user, "password": server.password, "database": server.database}
    limits = {"connect_timeout": _SECONDS, "read_timeout": _SECONDS}
    created = ""
    try:
        with contextlib.closing(pymysql.connect(**address, **login, **limits)) as connection:
            version = connection.get_server_info()
            with connection.cursor() as cursor, contextlib.suppress(pymysql.err.MySQLError):
                cursor.execute("SHOW CREATE USER CURRENT_USER()")  # since MySQL 5.7
                (created,) = cursor.fetchone()
    except pymysql.err.MySQLError as error:
        code, message = (*error.args, "", "")[:2]
        raise _refusal(server, _MYSQL.get(code), message) from None
    match = re.match(r"CREATE USER (\S+) IDENTIFIED WITH \W?(\w+)", created)
    if match and match[2] in _UNKNOWN_PLUGINS:
        raise UserError(
            f"{server} authenticates the user {server.user!r} with {match[2]}, which ml-metadata's "
            f"MySQL client does not support; {plugin_remedy(match[1], version)}."
        )


def plugin_remedy(account: str, version: str) -> str:
    """Say what to do about an account whose authentication plugin ml-metadata does not support.

    In MySQL 8.4 the supported plugin is disabled by default; MySQL 9 does not have it.
    """
    major, minor = (int(number) for number in re.findall(r"\d+", version)[:2])
    if major >= 9:
        return (
            f"MySQL {major} has no plugin that it supports, so {_POSTGRESQL_INSTEAD}, MySQL 8.4 or "
            "MariaDB"
        )
    first = "start it with --mysql-native-password=ON and " if (major, minor) >= (8, 4) else ""
    alter = f"ALTER USER {account} IDENTIFIED WITH mysql_native_password BY 'PASSWORD'"
    return f"{first}run {alter} there, or {_POSTGRESQL_INSTEAD}"


def _ask_postgresql(server: Server, relay: Path | None) -> None:
    with _postgresql(server, relay) as connection:
        ((usable,),) = connection.run(
            "SELECT CASE WHEN to_regclass('mlmdenv') IS NULL"
            " THEN has_schema_privilege(current_schema(), 'CREATE')"
            " ELSE has_table_privilege('mlmdenv', 'INSERT') END"
        )
    if not usable:
        raise no_rights(server, "permission denied")


def allow_long_values(server: Server, relay: Path | None) -> None:
    """Drop the indexes on long text columns that ml-metadata creates in PostgreSQL.

    ml-metadata 1.16 and 1.21 create them. An index entry has at most 2704 bytes, but TFX stores
    longer values, such as the parameters of the Trainer, and PostgreSQL would reject them. TFX does
    not query these columns.
    """
    if server.kind != tls_relay.POSTGRESQL:
        return
    with _postgresql(server, relay) as connection:
        for (name,) in connection.run(
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()"
            " AND indexname LIKE 'idx_%_property_string'"
        ):
            connection.run(f"DROP INDEX IF EXISTS {name}")


@contextlib.contextmanager
def _postgresql(server: Server, relay: Path | None) -> Iterator[pg8000.native.Connection]:
    try:
        connection = pg8000.native.Connection(
            server.user,
            host=server.host,
            port=server.port,
            unix_sock=relay and str(relay),
            database=server.database,
            password=server.password,
            timeout=_SECONDS,
            ssl_context=False,
        )
        with contextlib.closing(connection):
            yield connection
    except (pg8000.native.Error, OSError) as error:
        raise _explain(server, error) from None


def _explain(server: Server, error: BaseException) -> Exception:
    message, code = str(error), ""
    # When the server hangs up, pg8000's attempt to close the connection hides the first error.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, pg8000.native.DatabaseError) and isinstance(cause.args[0], dict):
            fields = cause.args[0]
            message, code = fields.get("M", message), fields.get("C", "")
        cause = cause.__context__
    if code == _DENIED:
        return no_rights(server, message)
    wants_tls = "no encryption" in message or "SSL off" in message
    return _refusal(server, _TLS_ONLY if wants_tls else _POSTGRESQL.get(code), message)


_LOGIN, _DATABASE, _TLS_ONLY = "login", "database", "TLS"
_MYSQL = {1045: _LOGIN, 1130: _LOGIN, 1698: _LOGIN, 1044: _DATABASE, 1049: _DATABASE}
_MYSQL |= {3159: _TLS_ONLY}
_POSTGRESQL = {"28P01": _LOGIN, "28000": _LOGIN, "3D000": _DATABASE}
_DENIED = "42501"


def _refusal(server: Server, kind: str | None, message: str) -> Exception:
    message = message.rstrip(".")
    if kind == _LOGIN:
        also = "" if server.tls != tls_relay.OFF else ", or set metadata.tls if it requires TLS"
        return UserError(
            f"{server} rejects the login of the user {server.user!r} ({message}); {_SECRET}{also}."
        )
    if kind == _DATABASE:
        return UserError(
            f"{server} has no database {server.database!r} that the user {server.user!r} may use "
            f"({message}); create it, or {_SECRET}."
        )
    if kind == _TLS_ONLY:
        return UserError(
            f"{server} rejects the user {server.user!r} without TLS ({message}); set metadata.tls "
            f"to verify-full, verify-ca or require, or {_SECRET}."
        )
    return ConnectionError(f"{server} is not available now ({message})")


def no_rights(server: Server, message: str) -> UserError:
    """Build the error for a user who may not create or use ml-metadata's tables."""
    name, database = server.user, server.database
    remedy = f"run GRANT ALL ON {database}.* TO {name} there"
    if server.kind == tls_relay.POSTGRESQL:
        remedy = f"run GRANT ALL ON SCHEMA public TO {name} as its owner, or use the owner's login"
    return UserError(
        f"{server} does not let the user {name!r} create or use tables in the database "
        f"{database!r} ({message.rstrip('.')}); {remedy}."
    )
