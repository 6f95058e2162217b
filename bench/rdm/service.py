"""The service: the features are uploaded, and the RDM comes back as float32."""

from __future__ import annotations

import numpy as np

from ..cases import RDMCase
from ..client_column import ClientColumn
from ..worker import Case, Result, main


class Service(ClientColumn):
    """`Client.rdm_of`, with the client in this process and the server in another."""

    def prepare(self, case: Case) -> None:
        """Connect, and read the features."""
        self._case = RDMCase(**case)
        self._features = np.load(self._case.features)
        client = self.connect(self._case.address)
        client.rdm_of(self._features[:64], metric=self._case.metric)

    def run(self) -> Result:
        """Compute the RDM."""
        rdms = self.client.rdm_of(self._features, metric=self._case.metric).rdms
        return {"rdm": rdms["features"]}


if __name__ == "__main__":
    main(Service)
