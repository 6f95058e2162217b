"""The client's own `compute_rdm`: the library's function, on the user's machine."""

from __future__ import annotations

import numpy as np

from thingsvision_client.core.rsa import compute_rdm

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class ClientFunction(Column):
    """numpy alone: neither a server nor torch."""

    def prepare(self, case: Case) -> None:
        """Read the features."""
        self._case = RDMCase(**case)
        self._features = np.load(self._case.features)
        compute_rdm(self._features[:64], self._case.metric)

    def run(self) -> Result:
        """Compute the RDM, float64."""
        return {"rdm": compute_rdm(self._features, self._case.metric)}


if __name__ == "__main__":
    main(ClientFunction)
