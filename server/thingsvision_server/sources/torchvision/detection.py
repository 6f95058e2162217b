"""The part of torchvision's networks for detection whose outputs are still of images.

What follows it sees boxes: their number depends on what is in the images.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn


class UpToDetections(nn.Module):
    """Runs a network of `torchvision.models.detection` as it runs itself, up to its first head."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network

    def forward(self, batch: torch.Tensor) -> Any:
        """Return what the head that sees whole images gives for images (values 0 to 1)."""
        network = self._network
        images, _ = network.transform(list(batch))
        features = network.backbone(images.tensors)
        if isinstance(features, torch.Tensor):
            features = OrderedDict([("0", features)])
        head = network.rpn.head if hasattr(network, "rpn") else network.head
        return head(list(features.values()))


def detection_side(resizing: Any) -> int:
    """Return the side of the square images that a network's own resizing leaves as they are."""
    height, width = resizing.fixed_size or (resizing.min_size[-1],) * 2
    return int(min(height, width))
