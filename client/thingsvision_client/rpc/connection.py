"""The connection to one server: its channel, its stubs and its cache of images."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from .address import is_encrypted, resolve_address, with_tls
from .call import Caller
from .credentials import Credentials, credentials_for
from .image_cache import ImageCache
from .link import Link
from .proxies import find_route, may_use_proxy
from .stubs import Stubs, open_stubs

_INHERITED: list[_Line] = []
"""Lines of the process that this was forked from: closing them could wait for its threads."""


@dataclass(frozen=True)
class _Line:
    """An open channel of one process."""

    process: int
    caller: Caller
    stubs: Stubs
    image_cache: ImageCache


class Connection:
    """Connects to a server at the first call; `caller`, `stubs` and `image_cache` may be shared.

    `server`, `timeout_s` and `proxy` are as in `Client`; without `credentials`, they are those that
    this process was told for the server. Copies, and processes that were forked
    or got it pickled, connect anew: gRPC's channels belong to the process that opened them. Ask
    for `caller`, `stubs` and `image_cache` at each call. `input_ranges` has the smallest and the
    largest value of models' own inputs, as far as known. Raises NoServerError.
    """

    def __init__(
        self,
        server: str | None,
        timeout_s: float | None,
        *,
        proxy: bool | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.address = resolve_address(server)
        self._timeout_s = timeout_s
        self._credentials = credentials or credentials_for(self.address)
        self._proxy = may_use_proxy(self.address) if proxy is None else proxy
        self._marks: dict[str, Any] = {}
        self._line = self._open()
        self.input_ranges: dict[str, tuple[float, float] | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_line"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._line = self._open()

    @property
    def caller(self) -> Caller:
        """What calls the methods."""
        return replace(self._line_here().caller, **self._marks)

    @property
    def stubs(self) -> Stubs:
        """The methods of the server."""
        return self._line_here().stubs

    @property
    def image_cache(self) -> ImageCache:
        """What is known of the server's cache of images."""
        return self._line_here().image_cache

    def aimed(self, *, server: str = "", shard: str = "", lost_servers: int = 0) -> Connection:
        """Return this connection, for calls of one server or of a part of an extraction.

        The arguments are as in `Caller`. Closing either closes both.
        """
        found = object.__new__(type(self))
        marks = {"destination": server, "shard": shard, "lost_servers": lost_servers}
        vars(found).update({**vars(self), "_marks": marks})
        return found

    def to(self, address: str) -> Connection:
        """Return a connection to another server of the cluster, with the same credentials."""
        return Connection(
            with_tls(address) if is_encrypted(self.address) else address,
            self._timeout_s,
            proxy=self._proxy,
            credentials=self._credentials,
        )

    def close(self) -> None:
        """End every call and close the channel."""
        self._line_here().caller.link.close()

    def _line_here(self) -> _Line:
        if self._line.process != os.getpid():
            _INHERITED.append(self._line)
            self._line = self._open()
        return self._line

    def _open(self) -> _Line:
        route = find_route(self.address, proxy=self._proxy)
        self._credentials.check(route)
        caller = Caller(Link(route, self._credentials), self._timeout_s)
        stubs = open_stubs(caller.link.channel)
        return _Line(os.getpid(), caller, stubs, ImageCache(caller, stubs.images.FindImages))
