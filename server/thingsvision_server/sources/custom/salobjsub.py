"""A family of the source `custom`: AlexNet fine-tuned on salient object subitizing."""

from __future__ import annotations

from functools import partial

from torchvision import models

from ..catalogues.checkpoints import (
    Checkpoint,
    CheckpointCatalogue,
    checkpoint_source,
    without_prefix,
)
from ..catalogues.pytorch import PyTorchSource
from ..context import SourceContext
from ..weights.folder import PublishedWeights

_CLASSES = 565
"""Subitizing has five classes, but the last layer in the published file has 565."""


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    name = "AlexNet_SalObjSub"
    network = Checkpoint(
        partial(models.alexnet, weights=None, num_classes=_CLASSES),
        PublishedWeights("https://osf.io/download/sd3xj/", cached_as=name),
        59_318_645,
        without_prefix("module."),
    )
    return checkpoint_source(context, CheckpointCatalogue("custom", "published", {name: network}))
