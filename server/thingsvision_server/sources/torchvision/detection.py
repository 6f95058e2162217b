"""The part of torchvision's detection networks that still has one output per image.

The layers after it process boxes, whose number depends on the content of the images.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn


class UpToDetections(nn.Module):
    """Runs a network of `torchvision.models.detection` up to its first head."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network = network

    def forward(self, batch: torch.Tensor) -> Any:
        """Return the outputs of the first head for a batch of images (values 0 to 1)."""
        network = self._network
        images, _ = network.transform(list(batch))
        features = network.backbone(images.tensors)
        if isinstance(features, torch.Tensor):
            features = OrderedDict([("0", features)])
        head = network.rpn.head if hasattr(network, "rpn") else network.head
        return head(list(features.values()))


def detection_side(transform: Any) -> int:
    """Return the side of square images that a network's own transform does not resize, pixels."""
    height, width = transform.fixed_size or (transform.min_size[-1],) * 2
    return int(min(height, width))
