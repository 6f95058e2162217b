"""Networks as open_clip itself builds them."""

from __future__ import annotations

import open_clip
import torch
from torch import nn

SEED = 5

_built: dict[str, nn.Module] = {}


def direct_network(architecture: str) -> nn.Module:
    """Return open_clip's own network, of its class that is not ours, from the same seed."""
    if architecture not in _built:
        torch.manual_seed(SEED)
        network = open_clip.create_model(architecture).eval().requires_grad_(False)
        assert isinstance(network, open_clip.CLIP)
        _built[architecture] = network
    return _built[architecture]
