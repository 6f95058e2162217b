"""Somebody on the way who offers less than TLS gets no token, and nobody gets in without it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.lab import Lab, found_lab
from support.serving import TestServer
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.access.scopes import Scope

ANSWERS = {
    "silence": b"",
    "HTTP/1": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "HTTP/2 in plain text": b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x46",  # protocol_version: try an older one
}


@contextmanager
def listener(
    answer: bytes, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, bytearray]]:
    """Listen, answer each connection so, and yield the port and all bytes that come."""
    heard = bytearray()

    def serve(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.settimeout(0.5)
                    line = (
                        context.wrap_socket(connection, server_side=True) if context else connection
                    )
                    line.sendall(answer)
                    while piece := line.recv(65536):
                        heard.extend(piece)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.fixture(scope="module")
def token(lab: Lab) -> str:
    return lab.add_token("ada", Scope.READ)


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_client_that_encrypts_never_speaks_plain_text(kind: str, lab: Lab, token: str) -> None:
    with (
        listener(ANSWERS[kind]) as (port, heard),
        Client(f"grpcs://localhost:{port}", token=token, ca=lab.ca, timeout=1.5) as client,
        pytest.raises(ThingsvisionError),
    ):
        client.residency()
    assert heard, "the client did not call"
    assert token.encode() not in heard
    assert b"authorization" not in heard
    assert b"PRI * HTTP/2.0" not in heard


def test_a_server_of_another_authority_hears_nothing(lab: Lab, token: str, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found_lab(tmp_path).authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    with (
        listener(b"", context) as (port, heard),
        Client(f"grpcs://localhost:{port}", token=token, ca=lab.ca, timeout=5) as client,
        pytest.raises(ThingsvisionError, match="of an authority that this client does not"),
    ):
        client.residency()
    assert not heard


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(
    version: ssl.TLSVersion, lab: Lab, lab_server: TestServer
) -> None:
    def connect(least: ssl.TLSVersion, most: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(lab.ca))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = least, most
        context.set_alpn_protocols(["h2"])
        host, _, port = lab_server.address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as line,
        ):
            return line.version()

    assert connect(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)version|reset|EOF"):
        connect(version, version)
