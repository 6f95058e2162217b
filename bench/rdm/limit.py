"""The limit: one matrix product of the features with themselves in float64, and nothing else."""

from __future__ import annotations

import numpy as np

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class Limit(Column):
    """numpy detects that both factors are the same array and does half the work (syrk)."""

    def prepare(self, case: Case) -> None:
        """Read the features as float64."""
        self._features = np.load(RDMCase(**case).features).astype(np.float64)

    def run(self) -> Result:
        """Multiply; the product is not an RDM, so it is dropped."""
        np.matmul(self._features, self._features.T)
        return {}


if __name__ == "__main__":
    main(Limit)
