"""The cases that columns run; plain data, so that every Python can read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAG = "IMAGENET1K_V1"
"""Torchvision's weights with the most common preprocessing: 256, 224, ImageNet's mean and std."""


@dataclass(frozen=True)
class FeatureCase:
    """Features of photographs."""

    network: str
    """The library's name for it, e.g. `alexnet`."""
    model: str
    """The service's name for it, e.g. `torchvision/alexnet@IMAGENET1K_V1`."""
    modules: list[str]
    images: list[str]
    """Paths of files in one folder, sorted by name."""
    weights: str
    """A file with the network's weights: a PyTorch file, or arrays for Keras (.npz)."""
    weights_dir: str
    """The server's weights folder."""
    address: str
    device: str = "cpu"
    batch_size: int = 32
    inputs: str = "files"
    """`files`, or `tensors` for images that are already preprocessed."""
    merges: bool = False
    """Whether the service may merge batches of several requests."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `Client.extract`, for the service only."""

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
    """Activations of an early layer: `count` rows of `shape`, from a network cheap to run."""

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
    """The reader's pause after each part of the reply."""

    @property
    def byte_count(self) -> int:
        """Return the size of all activations, bytes."""
        count = 4 * self.count
        for size in self.shape:
            count *= size
        return count
