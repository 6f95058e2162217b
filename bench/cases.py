"""What a column is told to do; plain data, so that every Python can read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAG = "IMAGENET1K_V1"
"""Torchvision's weights with the preprocessing that most scripts have: 256, 224, ImageNet's."""


@dataclass(frozen=True)
class FeatureCase:
    """Features of photographs."""

    network: str
    """As its library calls it, e.g. `alexnet`."""
    model: str
    """As the service calls it, e.g. `torchvision/alexnet@IMAGENET1K_V1`."""
    modules: list[str]
    images: list[str]
    """Paths of files in one folder, in the order of their names."""
    weights: str
    """A file with the network's weights: of PyTorch, or arrays for Keras (.npz)."""
    weights_dir: str
    """The folder of weights of the server."""
    address: str
    device: str = "cpu"
    batch_size: int = 32
    inputs: str = "files"
    """`files`, or `tensors`: images that were preprocessed before."""
    merges: bool = False
    """Whether the service may merge batches with those of other requests."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `Client.extract`, of the service alone."""

    @property
    def folder(self) -> str:
        """Return the folder of the images."""
        return str(Path(self.images[0]).parent)


@dataclass(frozen=True)
class RDMCase:
    """An RDM of features in a file (.npy, N x P float32)."""

    features: str
    metric: str
    address: str
    device: str = "cpu"


@dataclass(frozen=True)
class StreamCase:
    """Activations of an early layer: `count` rows of `shape`, of a network that costs little."""

    model: str
    module: str
    count: int
    input_shape: list[int]
    shape: list[int]
    address: str
    weights_dir: str
    device: str = "cpu"
    batch_size: int = 32
    pause_seconds: float = 0.0
    """Pause of the reader after each part of the reply."""

    @property
    def byte_count(self) -> int:
        """Return the length of all activations, bytes."""
        count = 4 * self.count
        for size in self.shape:
            count *= size
        return count
