"""Arrow Flight: ready record batches of 1 MiB, sent by Flight's own C++ server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import flight

from ..cases import StreamCase
from ..worker import Case, Column, Result, main
from .rival import MESSAGE_BYTES, RivalServer, in_background, is_server, serve_until_input_ends


class Flight(Column):
    """Reads the batches without a copy."""

    _server: RivalServer | None = None

    def prepare(self, case: Case) -> None:
        """Start the server, and connect."""
        self._case = StreamCase(**case)
        if self._server is None:
            self._server = RivalServer("bench.stream.flight")
            self._client = flight.connect(f"grpc://127.0.0.1:{self._server.port}")

    def run(self) -> Result:
        """Receive as many bytes as the activations have, in whole batches."""
        count, received = -(-self._case.byte_count // MESSAGE_BYTES), 0
        for chunk in self._client.do_get(flight.Ticket(str(count).encode())):
            received += chunk.data.column(0).to_numpy(zero_copy_only=True).nbytes
        assert received >= self._case.byte_count
        return {}

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._client.close()
            self._server.close()


class _Batches(flight.FlightServerBase):  # type: ignore[misc]
    def do_get(self, _context: Any, ticket: Any) -> Any:
        """Send the number of batches in the ticket."""
        values = pa.array(np.zeros(MESSAGE_BYTES // 4, np.float32))
        batch = pa.record_batch([values], names=["values"])
        batches = (batch for _ in range(int(ticket.ticket)))
        return flight.GeneratorStream(batch.schema, batches)


def _serve() -> None:
    server = _Batches("grpc://127.0.0.1:0")
    in_background(server.serve)
    serve_until_input_ends(server.port)


if __name__ == "__main__":
    _serve() if is_server() else main(Flight)
