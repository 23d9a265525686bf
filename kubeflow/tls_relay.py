"""A TLS relay to a metadata server, in a process that ends with the process it serves.

ml-metadata's PostgreSQL client is built without TLS. Its MySQL client has TLS, but does not verify
certificates and falls back to plain text. So both clients connect in plain text to a socket in a
private folder, and this relay connects to the server. It is a separate process because ml-metadata
holds Python's GIL while it waits for a response.
"""

from __future__ import annotations

import argparse
import atexit
import os
import select
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

MYSQL, POSTGRESQL = "mysql", "postgresql"
OFF, REQUIRE, VERIFY_CA, VERIFY_FULL = "off", "require", "verify-ca", "verify-full"
# Keys of a Kubernetes Secret of type kubernetes.io/tls.
CA, CERTIFICATE, KEY = "ca.crt", "tls.crt", "tls.key"
SOCKET = ".s.PGSQL.5432"  # PostgreSQL's client looks for this name in a folder
_CONNECT_SECONDS = 20

# PostgreSQL: the message SSLRequest, and the start of AuthenticationSASL. MySQL: the capability
# CLIENT_SSL, and the other capabilities in the short packet that requests TLS (CLIENT_PROTOCOL_41,
# CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH).
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_SASL = struct.pack("!I", 10)
_CLIENT_SSL = 0x800
_CAPABILITIES = 0x200 | 0x8000 | 0x80000 | _CLIENT_SSL
_OK, _ERROR, _MORE_FOLLOWS = 0x00, 0xFF, b"\x01\x03"


class NotOffered(ConnectionError):
    """The server offers no TLS."""


def context(mode: str, certificates: Path) -> ssl.SSLContext:
    """Build the TLS context of a connection.

    Args:
      mode: ``require`` encrypts, ``verify-ca`` also verifies the server's certificate,
        ``verify-full`` also its host name.
      certificates: folder with ``ca.crt``, and with ``tls.crt`` and ``tls.key`` if the server
        requires a client certificate. ``verify-full`` without ``ca.crt`` uses the CAs of the
        system.

    Raises:
      OSError: if a file is unreadable or not PEM; the message names it.
    """
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = mode == VERIFY_FULL
    trust.verify_mode = ssl.CERT_NONE if mode == REQUIRE else ssl.CERT_REQUIRED
    authority, certificate, key = (certificates / name for name in (CA, CERTIFICATE, KEY))
    try:
        if mode == VERIFY_CA or (mode == VERIFY_FULL and authority.exists()):
            trust.load_verify_locations(authority)
        elif mode == VERIFY_FULL:
            trust.load_default_certs()
    except OSError as error:
        raise OSError(f"{authority} ({reason(error)})") from None
    try:
        if certificate.exists():
            trust.load_cert_chain(certificate, key)
    except OSError as error:
        raise OSError(f"{certificate} and {key} ({reason(error)})") from None
    return trust


def reason(error: OSError) -> str:
    """Return the operating system's or OpenSSL's name of an error."""
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or str(error)).replace("_", " ").lower()


def check(kind: str, host: str, port: int, trust: ssl.SSLContext) -> None:
    """Open a TLS connection and close it.

    Raises:
      NotOffered: if the server does not offer TLS.
      ssl.SSLError: if the handshake fails, for example because the certificate is not trusted.
      OSError: if the server cannot be reached.
    """
    with socket.create_connection((host, port), timeout=_CONNECT_SECONDS) as plain:
        if kind == POSTGRESQL:
            _ask_postgresql(plain)
        else:
            _greeting(plain)
            plain.sendall(_packet(1, struct.pack("<IIB23x", _CAPABILITIES, 1 << 24, 33)))
        trust.wrap_socket(plain, server_hostname=host).close()


def start(kind: str, host: str, port: int, mode: str, certificates: Path) -> Path:
    """Start a relay that ends with this process, and return the path of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="metadata-"))  # private to this user
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", __name__, kind, host, str(port), mode]
    relay = subprocess.Popen(
        [*command, str(certificates.resolve()), str(folder / SOCKET)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # or Ctrl-C would also end the relay, and too early
    )
    _running.append(relay)
    assert relay.stdout is not None
    if not relay.stdout.readline():
        raise ConnectionError(f"the relay to the metadata server {host}:{port} did not start")
    return folder / SOCKET


_running: list[subprocess.Popen[bytes]] = []  # keeps their standard inputs open


class _Relay(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.kind, self.address = arguments.kind, (arguments.host, arguments.port)
        self.trust = context(arguments.mode, arguments.certificates)
        super().__init__(str(arguments.socket), _Connection)

    def handle_error(self, *_: object) -> None:
        """Print nothing; the client reports that its connection was closed."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Relay

    def handle(self) -> None:
        client: socket.socket = self.request
        with socket.create_connection(self.server.address, timeout=_CONNECT_SECONDS) as plain:
            answer = b""
            if self.server.kind == POSTGRESQL:
                _ask_postgresql(plain)
            else:
                client.sendall(_packet(0, _without_tls(_greeting(plain))))
                answer = _with_tls(_read(client)[1])
                plain.sendall(_packet(1, answer[:32]))
            host = self.server.address[0]
            with self.server.trust.wrap_socket(plain, server_hostname=host) as server:
                server.settimeout(None)
                if answer:
                    _log_in_to_mysql(client, server, answer)
                else:
                    _begin_postgresql(client, server)
                _pass_on(client, server)


def _ask_postgresql(plain: socket.socket) -> None:
    plain.sendall(_SSL_REQUEST)
    if plain.recv(1) != b"S":
        raise NotOffered


def _greeting(plain: socket.socket) -> bytes:
    """Read the first packet of a MySQL server, and check that it offers TLS."""
    greeting = _read(plain)[1]
    if greeting[0] == _ERROR:  # such as too many connections, or a host that is not allowed
        raise ConnectionError(greeting[3:].lstrip(b"#").decode(errors="replace"))
    if not greeting[_capabilities(greeting) + 1] & (_CLIENT_SSL >> 8):
        raise NotOffered
    return greeting


def _capabilities(greeting: bytes) -> int:
    """Return the offset of the capabilities: after version, thread id, 8 bytes of nonce, zero."""
    return greeting.index(0, 1) + 1 + 4 + 8 + 1


def _without_tls(greeting: bytes) -> bytes:
    """Remove the TLS capability from the server's greeting to the client."""
    changed, at = bytearray(greeting), _capabilities(greeting)
    changed[at + 1] &= ~(_CLIENT_SSL >> 8)
    return bytes(changed)


def _with_tls(answer: bytes) -> bytes:
    """Add the TLS capability to the client's response to the server."""
    changed = bytearray(answer)
    changed[1] |= _CLIENT_SSL >> 8
    return bytes(changed)


def _begin_postgresql(client: socket.socket, server: ssl.SSLSocket) -> None:
    """Relay the first message and its response, without the mechanisms SCRAM-...-PLUS.

    They bind SCRAM to the TLS connection. A client that believes its connection is plain text would
    reject a server that offers them.
    """
    length = _exactly(client, 4)
    server.sendall(length + _exactly(client, struct.unpack("!I", length)[0] - 4))
    kind, length = _exactly(server, 1), _exactly(server, 4)
    body = _exactly(server, struct.unpack("!I", length)[0] - 4)
    if kind == b"R" and body.startswith(_SASL):
        names = [name for name in body[4:].split(b"\0") if name and not name.endswith(b"-PLUS")]
        body = _SASL + b"".join(name + b"\0" for name in names) + b"\0"
    client.sendall(kind + struct.pack("!I", len(body) + 4) + body)


def _log_in_to_mysql(client: socket.socket, server: ssl.SSLSocket, answer: bytes) -> None:
    """Relay a MySQL login; packet numbers are one higher on the server's side."""
    server.sendall(_packet(2, answer))
    while True:
        number, packet = _read(server)
        client.sendall(_packet(number - 1, packet))
        if packet[0] in (_OK, _ERROR):
            return
        if packet != _MORE_FOLLOWS:
            number, packet = _read(client)
            server.sendall(_packet(number + 1, packet))


def _packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number % 256]) + payload


def _read(source: socket.socket) -> tuple[int, bytes]:
    """Read a MySQL packet: its number and payload."""
    header = _exactly(source, 4)
    return header[3], _exactly(source, int.from_bytes(header[:3], "little"))


def _exactly(source: socket.socket, length: int) -> bytes:
    read = b""
    while len(read) < length:
        more = source.recv(length - len(read))
        if not more:
            raise ConnectionError("the connection was closed")
        read += more
    return read


def _pass_on(client: socket.socket, server: ssl.SSLSocket) -> None:
    """Relay data in both directions until one side closes the connection."""
    while True:
        ready = [server] if server.pending() else select.select([client, server], [], [])[0]
        for each in ready:
            each.setblocking(False)  # a TLS record may contain no data for us
            try:
                read = each.recv(1 << 16)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            finally:
                each.setblocking(True)
            if not read:
                return
            (server if each is client else client).sendall(read)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until standard input is closed, which happens when the parent process ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[MYSQL, POSTGRESQL])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("mode", choices=[REQUIRE, VERIFY_CA, VERIFY_FULL])
    parser.add_argument("certificates", type=Path)
    parser.add_argument("socket", type=Path)
    relay = _Relay(parser.parse_args(argv))
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    os.write(1, b"ready\n")
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
