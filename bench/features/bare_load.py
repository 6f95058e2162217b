"""A network loaded as a script does it: built, and its weights read and copied; nothing is run."""

from __future__ import annotations

from ..cases import FeatureCase
from ..networks import torch_network
from ..worker import Case, Column, Result, main


class BareLoad(Column):
    """Two lines of PyTorch."""

    def prepare(self, case: Case) -> None:
        """Load once, so that the imports are not timed."""
        self._case = FeatureCase(**case)
        self.run()

    def run(self) -> Result:
        """Load the network."""
        torch_network(self._case.network, self._case.weights).to(self._case.device)
        return {}


if __name__ == "__main__":
    main(BareLoad)
