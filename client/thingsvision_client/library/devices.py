"""The devices of a server, as users name them."""

from __future__ import annotations

import warnings
from typing import Any

from ..client import Client


def check_device(client: Client, device: Any, *, stacklevel: int = 3) -> None:
    """Warn if the server lacks a device; by default the warning is the caller's caller's."""
    if device is None:
        return
    names = [entry.name for entry in client.residency().devices]
    if not any(str(device) in (name, name.partition(":")[0]) for name in names):
        warnings.warn(
            f"The server has no device {str(device)!r}: it uses one of its own, "
            f"{', '.join(names)}.",
            stacklevel=stacklevel,
        )
