"""Bytes over a plain socket of the loopback interface: the system's own limit."""

from __future__ import annotations

import socket

from ..cases import StreamCase
from ..worker import Case, Column, Result, main
from .rival import MESSAGE_BYTES, RivalServer, in_background, is_server, serve_until_input_ends

_LENGTH_BYTES = 8


class TCP(Column):
    """Receives into one reused buffer."""

    _server: RivalServer | None = None

    def prepare(self, case: Case) -> None:
        """Start the server."""
        self._case = StreamCase(**case)
        self._server = self._server or RivalServer("bench.stream.tcp")

    def run(self) -> Result:
        """Receive as many bytes as the activations have."""
        assert self._server is not None
        missing, buffer = self._case.byte_count, bytearray(MESSAGE_BYTES)
        with socket.create_connection(("127.0.0.1", self._server.port)) as connection:
            connection.sendall(missing.to_bytes(_LENGTH_BYTES, "big"))
            while missing:
                missing -= connection.recv_into(buffer, min(len(buffer), missing))
        return {}

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()


def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    in_background(lambda: _answer(listener))
    serve_until_input_ends(listener.getsockname()[1])


def _answer(listener: socket.socket) -> None:
    payload = memoryview(bytes(MESSAGE_BYTES))
    while True:
        connection, _ = listener.accept()
        with connection:
            missing = int.from_bytes(connection.recv(_LENGTH_BYTES), "big")
            while missing:
                part = payload[:missing]
                connection.sendall(part)
                missing -= len(part)


if __name__ == "__main__":
    _serve() if is_server() else main(TCP)
