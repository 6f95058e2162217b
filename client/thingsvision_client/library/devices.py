"""The devices of a server, as users name them."""

from __future__ import annotations

from typing import Any, TypeAlias

from ..calls.caller import warn_caller
from ..client import Client

DeviceName: TypeAlias = Any
"""The name of a device, or a `torch.device`, or None."""


def check_device(client: Client, device: Any) -> None:
    """Warn if the server lacks a device; by default the warning is the caller's caller's."""
    if device is None:
        return
    names = list(dict.fromkeys(one.name for one in client.residency().devices))
    if not any(str(device) in (name, name.partition(":")[0]) for name in names):
        warn_caller(
            f"The server has no device {str(device)!r}: it uses one of its own, "
            f"{', '.join(names)}.",
        )
