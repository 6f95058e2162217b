"""The connection to one server: its channel, its stubs and its cache of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import grpc

from .call import Caller
from .channel import open_channel, resolve_address
from .image_cache import ImageCache
from .stubs import Stubs, open_stubs

_INHERITED: list[_Line] = []
"""Lines of the process that this one was forked from: closing them could wait for its threads."""


@dataclass(frozen=True)
class _Line:
    """An open channel of one process."""

    process: int
    channel: grpc.Channel
    stubs: Stubs
    image_cache: ImageCache


class Connection:
    """Connects to a server at the first call; `caller`, `stubs` and `image_cache` may be shared.

    `server` and `timeout_s` are as in `Client`. Copies, and processes that were forked or got it
    pickled, connect anew: gRPC's channels belong to the process that opened them. Ask for `stubs`
    and `image_cache` at each call. Raises NoServerError.
    """

    def __init__(self, server: str | None, timeout_s: float | None) -> None:
        self.caller = Caller(resolve_address(server), timeout_s)
        self._line = self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_line"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._line = self._open()

    @property
    def stubs(self) -> Stubs:
        """The methods of the server."""
        return self._line_here().stubs

    @property
    def image_cache(self) -> ImageCache:
        """What is known of the server's cache of images."""
        return self._line_here().image_cache

    def close(self) -> None:
        """End every call and close the channel."""
        self._line_here().channel.close()

    def _line_here(self) -> _Line:
        if self._line.process != os.getpid():
            _INHERITED.append(self._line)
            self._line = self._open()
        return self._line

    def _open(self) -> _Line:
        channel = open_channel(self.caller.address)
        stubs = open_stubs(channel)
        image_cache = ImageCache(self.caller, stubs.images.FindImages)
        return _Line(os.getpid(), channel, stubs, image_cache)
