"""Ask the server on this machine, by gRPC health, whether it is serving; exit 0 if so."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3


def main() -> int:
    """Return 0 if the server answers SERVING; else print its answer and return 1."""
    path, port = os.environ.get("THINGSVISION_UNIX"), os.environ.get("THINGSVISION_PORT", "")
    if not port.isdigit():
        port = ""  # Kubernetes sets it to a URL beside a service of that name
    mutual = os.environ.get("THINGSVISION_MTLS_PORT", "")
    certificate = os.environ.get("THINGSVISION_TLS_CERT", "")
    # Where only certificates are let in, it shows the server's own: health is for everybody.
    key = os.environ.get("THINGSVISION_TLS_KEY", "") if mutual and not port else ""
    address = f"unix:{path}" if path and not port else f"localhost:{port or mutual or 50051}"
    try:
        with open_channel(address, certificate, key) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
    except (grpc.RpcError, OSError) as error:
        print(f"{address} does not answer: {error}", file=sys.stderr)
        return 1
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        print(f"{address} is not serving: {reply}", file=sys.stderr)
        return 1
    return 0


def open_channel(address: str, certificate: str, key: str) -> grpc.Channel:
    """Return a channel that trusts the server's own certificate alone, by any of its names.

    With the certificate's key, it is shown as well.
    """
    if not certificate or address.startswith("unix:"):
        return grpc.insecure_channel(address)
    name = ("grpc.ssl_target_name_override", shown_name(address, certificate, key))
    own = Path(certificate).read_bytes()
    shown = (Path(key).read_bytes(), own) if key else ()
    credentials = grpc.ssl_channel_credentials(own, *shown)
    return grpc.secure_channel(address, credentials, options=[name])


def shown_name(address: str, certificate: str, key: str) -> str:
    """Return a name that the certificate is for: `localhost` need not be one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    if key:
        context.load_cert_chain(certificate, key)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        shown: Any = encrypted.getpeercert()
    names = [name for _, name in shown.get("subjectAltName", ())]
    return names[0] if names else "localhost"


if __name__ == "__main__":
    sys.exit(main())
