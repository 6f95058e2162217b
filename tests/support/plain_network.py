"""A network whose parts and computation are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Plain(nn.Module):
    """Has modules and parameters by keyword; `compute` is called with it and the images."""

    def __init__(self, compute: Callable[[Any, torch.Tensor], Any], **parts: Any) -> None:
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.compute(self, x)


def conv(inputs: int, outputs: int) -> nn.Module:
    """Return a convolution that keeps the size, with norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
