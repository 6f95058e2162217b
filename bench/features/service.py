"""The service: this process is the client, and the server is another on the same machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from thingsvision_client.rpc.extraction import Extraction

from ..cases import FeatureCase
from ..client_column import ClientColumn
from ..worker import Case, Result, main


class Service(ClientColumn):
    """`Client.extract` with the batch size of the peer's DataLoader."""

    _extraction: Extraction

    def prepare(self, case: Case) -> None:
        """Connect; the server loads the model in the first run."""
        self._case = FeatureCase(**case)
        self.connect(self._case.address)
        self._images: Any = self._case.images
        if self._case.inputs == "tensors":
            from ..inputs import torch_inputs  # imports torch, which a client doesn't need

            self._images = list(zip(self._case.images, torch_inputs(self._case), strict=True))

    def run(self) -> Result:
        """Send the images and receive the features."""
        batch_size = None if self._case.merges else self._case.batch_size
        self._extraction = self.client.extract(
            self._case.model,
            self._images,
            self._case.modules,
            batch_size=batch_size,
            **self._case.options,
        )
        return self._extraction.features

    def notes(self) -> dict[str, Any]:
        """Return the batch size, and the server's timings."""
        rounded = {k: round(v, 4) for k, v in asdict(self._extraction.timings).items()}
        return {"batch_size": self._extraction.batch_size, **rounded}


if __name__ == "__main__":
    main(Service)
