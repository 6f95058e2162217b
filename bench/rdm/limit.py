"""The limit: one product of the features with themselves in float64, and nothing else."""

from __future__ import annotations

import numpy as np

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class Limit(Column):
    """numpy sees that both factors are one array and does half the work (syrk)."""

    def prepare(self, case: Case) -> None:
        """Read the features, and make them float64."""
        self._features = np.load(RDMCase(**case).features).astype(np.float64)

    def run(self) -> Result:
        """Multiply; what comes out is no RDM, so nothing is kept of it."""
        np.matmul(self._features, self._features.T)
        return {}


if __name__ == "__main__":
    main(Limit)
