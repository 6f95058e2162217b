"""The CORnet family of the source `custom`, with its published weights; knows no other model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from ...catalogues.checkpoints import (
    Checkpoint,
    CheckpointCatalogue,
    checkpoint_source,
    without_prefix,
)
from ...catalogues.pytorch import PyTorchSource
from ...context import SourceContext
from ...weights.folder import PublishedWeights
from .networks import cornet_r, cornet_rt, cornet_s, cornet_z


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    return checkpoint_source(context, CheckpointCatalogue("custom", "imagenet", _NETWORKS))


def _published(build: Callable[[], nn.Module], file: str, parameter_count: int) -> Checkpoint:
    """Return a row; the files were saved from `DataParallel`, and before PyTorch counted batches.

    The missing counters of BatchNorm are filled in by PyTorch itself.
    """
    weights = PublishedWeights(f"https://s3.amazonaws.com/cornet-models/{file}")
    return Checkpoint(build, weights, parameter_count, without_prefix("module."))


_NETWORKS: Mapping[str, Checkpoint] = {
    "cornet-z": _published(cornet_z, "cornet_z-5c427c9c.pth", 2_071_656),
    "cornet-r": _published(cornet_r, "cornet_r-5930a990.pth", 5_208_936),
    "cornet-rt": _published(cornet_rt, "cornet_rt-933c001c.pth", 5_208_936),
    "cornet-s": _published(cornet_s, "cornet_s-1d3f7974.pth", 53_416_616),
}
