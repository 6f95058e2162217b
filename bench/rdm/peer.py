"""The peer's own `compute_rdm`, under its own Python."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from ..cases import RDMCase
from ..worker import Case, Column, Result, main


class Peer(Column):
    """THINGSvision from PyPI."""

    def prepare(self, case: Case) -> None:
        """Read the features, and let the peer compile its functions."""
        self._case = RDMCase(**case)
        self._compute_rdm = import_module("thingsvision.core.rsa").compute_rdm
        self._features = np.load(self._case.features)
        self._compute_rdm(self._features[:64], self._case.metric)

    def run(self) -> Result:
        """Compute the RDM."""
        return {"rdm": self._compute_rdm(self._features, self._case.metric)}


if __name__ == "__main__":
    main(Peer)
