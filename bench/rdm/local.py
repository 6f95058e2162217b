"""The server's own function, without gRPC."""

from __future__ import annotations

import numpy as np

from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.rows import ArrayRows

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class Local(Column):
    """float64 sums over blocks of values."""

    def prepare(self, case: Case) -> None:
        """Read the features."""
        self._case = RDMCase(**case)
        self._rows = ArrayRows(np.load(self._case.features))
        compute_rdm(ArrayRows(self._rows.array[:64]), self._case.metric, device=self._case.device)

    def run(self) -> Result:
        """Compute the RDM, float64."""
        rdm = compute_rdm(self._rows, self._case.metric, device=self._case.device)
        return {"rdm": rdm.distances}


if __name__ == "__main__":
    main(Local)
