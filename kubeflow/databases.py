"""Asks a metadata server whether it lets ml-metadata in, and says why not, in a sentence.

ml-metadata itself does not pass on what the server said. The questions are asked as it asks: in
plain, or through the relay of `kubeflow.tls_relay`.
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
# The ways to log in that ml-metadata's MySQL client lacks (google/ml-metadata#178).
_UNKNOWN_PLUGINS = ("caching_sha2_password", "sha256_password")


@dataclasses.dataclass(frozen=True)
class Server:
    """A MySQL or PostgreSQL server, and the login there."""

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


def check_way(server: Server) -> None:
    """Checks that the server can be reached, with TLS if that is asked for.

    Raises:
      UserError: TLS is not as the setting metadata.tls asks for it.
      ConnectionError: nothing listens there, or it ends the connection.
    """
    asked = f"metadata.tls={server.tls}"
    try:
        if server.tls == tls_relay.OFF:
            socket.create_connection((server.host, server.port), timeout=_SECONDS).close()
            return
        trust = _trust(server)
        tls_relay.check(server.kind, server.host, server.port, trust)
    except tls_relay.NotOffered:
        raise UserError(
            f"{server} offers no TLS, which {asked} asks for; turn it on there, or set "
            "metadata.tls to off."
        ) from None
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message.rstrip(".")
        if "not valid for" in said:
            what = "has a certificate for another host"
            remedy = "let the Secret's host be the name in it, or set metadata.tls to verify-ca"
        else:
            what = "has a certificate that is not trusted"
            remedy = f"put its authority's certificate into the Secret, as {tls_relay.CA}"
        raise UserError(f"{server} {what} ({said}), and {asked} checks it; {remedy}.") from None
    except ssl.SSLError as error:
        raise ConnectionError(
            f"{server} and this client agree on no TLS ({tls_relay.reason(error)})"
        ) from None
    except OSError as error:
        raise ConnectionError(f"{server} cannot be reached ({error.strerror or error})") from None


def _trust(server: Server) -> ssl.SSLContext:
    try:
        return tls_relay.context(server.tls, server.certificates)
    except OSError as error:
        raise UserError(
            f"metadata.tls is {server.tls}, but what the Secret holds for it cannot be used: "
            f"{error}; the keys {tls_relay.CA}, {tls_relay.CERTIFICATE} and {tls_relay.KEY} hold "
            "PEM."
        ) from None


def check_login(server: Server, relay: Path | None) -> None:
    """Checks that ml-metadata can log in and use the database.

    Args:
      server: that can be reached.
      relay: the socket of the relay, if TLS is asked for.

    Raises:
      UserError: login or database are not as they must be.
      ConnectionError: the server cannot serve now.
    """
    (_ask_postgresql if server.kind == tls_relay.POSTGRESQL else _ask_mysql)(server, relay)


def _ask_mysql(server: Server, relay: Path | None) -> None:
    place: dict[str, Any] = {"host": server.host, "port": server.port, "ssl_disabled": True}
    login = {"user": server.user, "password": server.password, "database": server.database}
    times = {"connect_timeout": _SECONDS, "read_timeout": _SECONDS}
    created = ""
    try:
        place = {"unix_socket": str(relay)} if relay else place
        with contextlib.closing(pymysql.connect(**place, **login, **times)) as connection:
            version = connection.get_server_info()
            with connection.cursor() as cursor, contextlib.suppress(pymysql.err.MySQLError):
                cursor.execute("SHOW CREATE USER CURRENT_USER()")  # MySQL 5.7 and later know it
                (created,) = cursor.fetchone()
    except pymysql.err.MySQLError as error:
        code, said = (*error.args, "", "")[:2]
        raise _refusal(server, _MYSQL.get(code), said) from None
    found = re.match(r"CREATE USER (\S+) IDENTIFIED WITH \W?(\w+)", created)
    if found and found[2] in _UNKNOWN_PLUGINS:
        raise UserError(
            f"{server} lets the user {server.user!r} log in with {found[2]}, which ml-metadata's "
            f"MySQL client does not know; {plugin_remedy(found[1], version)}."
        )


def plugin_remedy(account: str, version: str) -> str:
    """What to do where an account has a way to log in that ml-metadata does not know.

    MySQL 8.4 has the old way, but turned off; MySQL 9 has none.
    """
    major, minor = (int(number) for number in re.findall(r"\d+", version)[:2])
    if major >= 9:
        return (
            f"MySQL {major} has nothing that it knows: {_POSTGRESQL_INSTEAD}, MySQL 8.4 or MariaDB"
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
    """Drops the indexes of PostgreSQL's tables that hold whole texts, where they are.

    ml-metadata 1.16 and 1.21 make them. An entry has 2704 bytes at most, and TFX notes more, such
    as all parameters of the Trainer: PostgreSQL would refuse that. TFX looks nothing up by them.
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
        raise _explained(server, error) from None


def _explained(server: Server, error: BaseException) -> Exception:
    said, code = str(error), ""
    # pg8000 says goodbye to a server that has hung up, and that error hides the first.
    before: BaseException | None = error
    while before is not None:
        if isinstance(before, pg8000.native.DatabaseError) and isinstance(before.args[0], dict):
            fields = before.args[0]
            said, code = fields.get("M", said), fields.get("C", "")
        before = before.__context__
    if code == _DENIED:
        return no_rights(server, said)
    wants_tls = "no encryption" in said or "SSL off" in said
    return _refusal(server, _TLS_ONLY if wants_tls else _POSTGRESQL.get(code), said)


_LOGIN, _DATABASE, _TLS_ONLY = "login", "database", "TLS"
_MYSQL = {1045: _LOGIN, 1130: _LOGIN, 1698: _LOGIN, 1044: _DATABASE, 1049: _DATABASE}
_MYSQL |= {3159: _TLS_ONLY}
_POSTGRESQL = {"28P01": _LOGIN, "28000": _LOGIN, "3D000": _DATABASE}
_DENIED = "42501"


def _refusal(server: Server, kind: str | None, said: str) -> Exception:
    said = said.rstrip(".")
    if kind == _LOGIN:
        also = "" if server.tls != tls_relay.OFF else ", or set metadata.tls if it wants TLS"
        return UserError(
            f"{server} refuses the login of the user {server.user!r} ({said}); {_SECRET}{also}."
        )
    if kind == _DATABASE:
        return UserError(
            f"{server} has no database {server.database!r} that the user {server.user!r} may use "
            f"({said}); make it, or {_SECRET}."
        )
    if kind == _TLS_ONLY:
        return UserError(
            f"{server} refuses the user {server.user!r} without TLS ({said}); set metadata.tls to "
            f"verify-full, verify-ca or require, or {_SECRET}."
        )
    return ConnectionError(f"{server} does not serve now ({said})")


def no_rights(server: Server, said: str) -> UserError:
    """The user may not make ml-metadata's tables in the database, or not use them."""
    name, database = server.user, server.database
    remedy = f"run GRANT ALL ON {database}.* TO {name} there"
    if server.kind == tls_relay.POSTGRESQL:
        remedy = (
            f"let its owner run GRANT ALL ON SCHEMA public TO {name}, or give the owner's login"
        )
    return UserError(
        f"{server} lets the user {name!r} make or use no tables in the database {database!r} "
        f"({said.rstrip('.')}); {remedy}."
    )
