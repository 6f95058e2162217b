"""The service's stream: counts the bytes of rows as they arrive, and drops them."""

from __future__ import annotations

import time
from typing import Any

from ..cases import StreamCase
from ..client_column import ClientColumn
from ..memory import Peak, peak_of
from ..worker import Case, Result, main
from .inputs import tensor_inputs


class Service(ClientColumn):
    """`Client.stream`, with the client in this process and the server in another."""

    _peak: Peak

    def prepare(self, case: Case) -> None:
        """Connect."""
        self._case = StreamCase(**case)
        self.connect(self._case.address)

    def run(self) -> Result:
        """Receive all rows."""
        self._received = 0
        with peak_of("self") as self._peak:
            self._receive()
        assert self._received == self._case.byte_count
        return {}

    def _receive(self) -> None:
        case = self._case
        inputs, batch = tensor_inputs(case), case.batch_size
        for _, rows in self.client.stream(case.model, inputs, case.module, batch_size=batch):
            self._received += rows[case.module].nbytes
            if case.pause_seconds:
                time.sleep(case.pause_seconds)

    def notes(self) -> dict[str, Any]:
        """Return the growth of this process's memory."""
        return {"peak_growth_bytes": self._peak.growth_bytes}


if __name__ == "__main__":
    main(Service)
