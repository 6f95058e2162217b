"""A bare script, as an expert writes it for one network: torchvision and a DataLoader.

`create_feature_extractor` drops all layers after the modules, and one worker process per core
decodes ahead; the workers persist between runs, so their start is not timed.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models.feature_extraction import create_feature_extractor

from ..cases import FeatureCase
from ..networks import torch_network, torch_transform
from ..worker import Case, Column, Result, main


class _Photographs(Dataset[torch.Tensor]):
    def __init__(self, paths: list[str], transform: Any) -> None:
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image: torch.Tensor = self._transform(Image.open(self._paths[index]).convert("RGB"))
        return image


class Bare(Column):
    """Twenty lines without our libraries or the peer's."""

    def prepare(self, case: Case) -> None:
        """Build the network and the loader."""
        self._case = FeatureCase(**case)
        network = torch_network(self._case.network, self._case.weights)
        extractor = create_feature_extractor(network, self._case.modules)
        self._extractor = extractor.to(self._case.device)
        few = len(self._case.images) <= self._case.batch_size
        self._worker_count = 0 if few else len(os.sched_getaffinity(0))
        self._loader = DataLoader(
            _Photographs(self._case.images, torch_transform(self._case.network)),
            batch_size=self._case.batch_size,
            num_workers=self._worker_count,
            persistent_workers=self._worker_count > 0,
            pin_memory=self._case.device != "cpu",
        )

    @torch.inference_mode()
    def run(self) -> Result:
        """Extract the features."""
        parts: list[dict[str, torch.Tensor]] = []
        for batch in self._loader:
            outputs = self._extractor(batch.to(self._case.device, non_blocking=True))
            parts.append({name: output.cpu() for name, output in outputs.items()})
        names = self._case.modules
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in names}

    def notes(self) -> dict[str, Any]:
        """Return how many processes decode."""
        return {"num_workers": self._worker_count}


if __name__ == "__main__":
    main(Bare)
