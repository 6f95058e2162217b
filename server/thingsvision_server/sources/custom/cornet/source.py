"""The CORnet family of the source `custom`, with its published weights."""

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


def _checkpoint(build: Callable[[], nn.Module], file: str, parameter_count: int) -> Checkpoint:
    """Return the checkpoint of a file saved from `DataParallel`.

    The files predate BatchNorm's batch counters, which PyTorch itself adds.
    """
    weights = PublishedWeights(f"https://s3.amazonaws.com/cornet-models/{file}")
    return Checkpoint(build, weights, parameter_count, without_prefix("module."))


_NETWORKS: Mapping[str, Checkpoint] = {
    "cornet-z": _checkpoint(cornet_z, "cornet_z-5c427c9c.pth", 2_071_656),
    "cornet-r": _checkpoint(cornet_r, "cornet_r-5930a990.pth", 5_208_936),
    "cornet-rt": _checkpoint(cornet_rt, "cornet_rt-933c001c.pth", 5_208_936),
    "cornet-s": _checkpoint(cornet_s, "cornet_s-1d3f7974.pth", 53_416_616),
}
