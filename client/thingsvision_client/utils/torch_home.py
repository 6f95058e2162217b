"""The folder where PyTorch keeps its downloads on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def get_torch_home() -> str:
    """Return the folder where PyTorch keeps its downloads on this machine.

    Extractors put nothing there: their weights are in a folder of the server.

    Returns:
        TORCH_HOME, else `torch` in XDG_CACHE_HOME or `~/.cache`.

    Example:
        ```python
        from thingsvision_client.utils.checkpointing import get_torch_home

        print(get_torch_home())
        ```

    """
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return str(Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser())
