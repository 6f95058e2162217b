"""The service's features in memory: an array that is filled as rows arrive."""

from __future__ import annotations

from typing import Any

from ..memory import peak_of
from ..worker import Result, main
from .inputs import named_inputs
from .service import Service


class Collected(Service):
    """`Client.extract`, with the client in this process and the server in another."""

    def run(self) -> Result:
        """Receive all rows into one array."""
        assert self._client is not None
        case = self._case
        inputs = list(named_inputs(case))
        with peak_of("self") as self._peak:
            extraction = self._client.extract(
                case.model, inputs, case.module, batch_size=case.batch_size
            )
        self._received = extraction.features[case.module].nbytes
        assert self._received == case.byte_count
        return {}

    def notes(self) -> dict[str, Any]:
        """Tell this process's peak, and what the result took of it."""
        return {**super().notes(), "result_bytes": self._received}


if __name__ == "__main__":
    main(Collected)
