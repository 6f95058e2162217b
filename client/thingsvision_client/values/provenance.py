"""What computed features, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .model import Model
from .options import ComputeOptions
from .preprocessing import Preprocessing


@dataclass(frozen=True)
class UsedPCA:
    """Which PCA reduced features, and which images it was fitted on; as in `PCA`."""

    sha256: str
    name: str
    component_count: int
    image_count: int
    images_sha256: str


@dataclass(frozen=True)
class Provenance(ComputeOptions):
    """What computed the features and how: all that a methods section needs.

    The options of the forward pass are among its fields.
    """

    model: Model
    model_sha256: str
    preprocessing: Preprocessing
    device: str
    framework: str
    server_version: str
    reduction: Mapping[str, Any] | None = None
    """What was done to the features, as JSON knows it; None: nothing."""
    pca: UsedPCA | None = None
    """The PCA of `reduction`; None: none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON knows them; the model as its id, `source/name@weights`."""
        return {
            **vars(self),
            "model": str(self.model),
            "preprocessing": self.preprocessing.to_dict(),
            "pca": None if self.pca is None else vars(self.pca),
        }

    def to_json(self) -> str:
        """Return the fields as text, for the methods section of a paper."""
        return json.dumps(self.to_dict(), indent=2)
