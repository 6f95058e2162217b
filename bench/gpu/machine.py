"""Describes the machine of a run: the line that figures are worth nothing without."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from thingsvision_server.backends.torch.hardware import describe_hardware

from ..machine import commit, core_count, now

_DISTRIBUTIONS = ("torch", "torchvision", "timm", "numpy", "grpcio", "protobuf", "pyarrow")


def describe(device: str) -> dict[str, Any]:
    """Return what computes, with which versions, and when; raise if the device is not there."""
    torch.ones(1, device=device).sum().item()
    return {
        "time": now(),
        "commit": commit(),
        "device": device,
        "hardware": describe_hardware(device),
        "cores": core_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
    }
