"""The service: the features go up, the RDM comes down as float32."""

from __future__ import annotations

import numpy as np

from thingsvision_client import Client

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class Service(Column):
    """`Client.rdm_of`, with the client in this process and the server in another."""

    _client: Client | None = None

    def prepare(self, case: Case) -> None:
        """Connect, read the features."""
        self._case = RDMCase(**case)
        self.close()
        self._client = Client(self._case.address)
        self._features = np.load(self._case.features)
        self._client.rdm_of(self._features[:64], metric=self._case.metric)

    def run(self) -> Result:
        """Compute the RDM."""
        assert self._client is not None
        rdms = self._client.rdm_of(self._features, metric=self._case.metric).rdms
        return {"rdm": rdms["features"]}

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()


if __name__ == "__main__":
    main(Service)
