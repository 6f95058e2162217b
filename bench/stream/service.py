"""The service's stream: rows are looked at as they arrive, and dropped."""

from __future__ import annotations

import time
from typing import Any

from thingsvision_client import Client

from ..cases import StreamCase
from ..memory import Peak, peak_of
from ..worker import Case, Column, Result, main
from .inputs import named_inputs


class Service(Column):
    """`Client.stream`, with the client in this process and the server in another."""

    _client: Client | None = None

    def prepare(self, case: Case) -> None:
        """Connect."""
        self._case = StreamCase(**case)
        self.close()
        self._client = Client(self._case.address)

    def run(self) -> Result:
        """Receive all rows."""
        self._received = 0
        with peak_of("self") as self._peak:
            self._receive()
        assert self._received == self._case.byte_count
        return {}

    def _receive(self) -> None:
        assert self._client is not None
        case = self._case
        inputs, batch = named_inputs(case), case.batch_size
        for _, rows in self._client.stream(case.model, inputs, case.module, batch_size=batch):
            self._received += rows[case.module].nbytes
            if case.pause_seconds:
                time.sleep(case.pause_seconds)

    def notes(self) -> dict[str, Any]:
        """Tell this process's peak."""
        return {"peak_growth_bytes": self._peak.growth_bytes}

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    _peak: Peak


if __name__ == "__main__":
    main(Service)
