"""Networks as open_clip itself builds them."""

from __future__ import annotations

from functools import cache

import open_clip
import torch
from torch import nn

SEED = 5


@cache
def direct_network(architecture: str) -> nn.Module:
    """Return open_clip's own network, of its class that is not ours, from the same seed.

    A network takes up to 600 MB: clear the cache when a file's tests are over.
    """
    torch.manual_seed(SEED)
    network: nn.Module = open_clip.create_model(architecture).eval().requires_grad_(False)
    assert isinstance(network, open_clip.CLIP)
    return network
