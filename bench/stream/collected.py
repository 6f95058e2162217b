"""The service's features collected in memory: an array that is filled as rows arrive."""

from __future__ import annotations

from typing import Any

from ..memory import peak_of
from ..worker import Result, main
from .inputs import tensor_inputs
from .service import Service


class Collected(Service):
    """`Client.extract`, with the client in this process and the server in another."""

    def run(self) -> Result:
        """Receive all rows into one array."""
        case = self._case
        inputs = list(tensor_inputs(case))
        with peak_of("self") as self._peak:
            extraction = self.client.extract(
                case.model, inputs, case.module, batch_size=case.batch_size
            )
        self._received = extraction.features[case.module].nbytes
        assert self._received == case.byte_count
        return {}

    def notes(self) -> dict[str, Any]:
        """Return this process's peak, and the size of the result."""
        return {**super().notes(), "result_bytes": self._received}


if __name__ == "__main__":
    main(Collected)
