"""The connection to one server: its channel, its stubs and its cache of images."""

from __future__ import annotations

from .call import Caller
from .channel import open_channel, resolve_address
from .image_cache import ImageCache
from .stubs import open_stubs


class Connection:
    """Connects to a server at the first call; `caller`, `stubs` and `image_cache` may be shared.

    `server` and `timeout_s` are as in `Client`. Raises NoServerError.
    """

    def __init__(self, server: str | None, timeout_s: float | None) -> None:
        self.caller = Caller(resolve_address(server), timeout_s)
        self._channel = open_channel(self.caller.address)
        self.stubs = open_stubs(self._channel)
        self.image_cache = ImageCache(self.caller, self.stubs.images.FindImages)

    def close(self) -> None:
        """End every call and close the channel."""
        self._channel.close()
