"""The service: this process is the client, the server is another one on the same machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from thingsvision_client import Client
from thingsvision_client.rpc.extraction import Extraction

from ..cases import FeatureCase
from ..worker import Case, Column, Result, main


class Service(Column):
    """`Client.extract` with the batch size that the library's DataLoader gives it."""

    _client: Client | None = None
    _extraction: Extraction

    def prepare(self, case: Case) -> None:
        """Connect; the server loads the model in the first run."""
        self._case = FeatureCase(**case)
        self.close()
        self._client = Client(self._case.address)
        self._images: Any = self._case.images
        if self._case.inputs == "tensors":
            from ..inputs import torch_inputs  # loads torch, which no client needs

            self._images = list(zip(self._case.images, torch_inputs(self._case), strict=True))

    def run(self) -> Result:
        """Send the images, receive the features."""
        assert self._client is not None
        batch_size = None if self._case.merges else self._case.batch_size
        self._extraction = self._client.extract(
            self._case.model,
            self._images,
            self._case.modules,
            batch_size=batch_size,
            **self._case.options,
        )
        return self._extraction.features

    def notes(self) -> dict[str, Any]:
        """Tell the batch size, and where the server says that the time went."""
        rounded = {k: round(v, 4) for k, v in asdict(self._extraction.timings).items()}
        return {"batch_size": self._extraction.batch_size, **rounded}

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()


if __name__ == "__main__":
    main(Service)
