"""The link to a server: its channel, whether it is connected, and how long connecting may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from .attempts import Attempts
from .channel import open_channel
from .credentials import Credentials
from .proxies import Route

_WATCHING_SECONDS = 3.0
_POLL_SECONDS = 0.3
"""gRPC's thread that watches a channel looks every 0.2 s whether anybody still wants to know."""

_Follow = Callable[["grpc.ChannelConnectivity"], None]


class Link:
    """A channel to a server, which threads may share.

    `is_connected` becomes True with the first reply; set it to False when a call finds no server.
    """

    def __init__(self, route: Route, credentials: Credentials) -> None:
        self.route = route
        self.credentials = credentials
        self.channel = open_channel(route, credentials)
        self.is_connected = False
        self._followers: list[_Follow] = []
        self._watched_until = 0.0
        self._is_closed = False
        self._watching = threading.Lock()

    def close(self) -> None:
        """Close the channel, once gRPC's thread that watched it has ended, which would fail."""
        with self._watching:
            self._is_closed = True
            followers = [*self._followers]
        for follow in followers:
            self.unwatch(follow)
        time.sleep(max(0.0, self._watched_until - time.monotonic()))
        self.channel.close()

    def watch(self, follow: _Follow) -> None:
        """Tell a function of the channel's state until `unwatch`, unless the channel is closed."""
        with self._watching:
            if not self._is_closed:
                self._followers.append(follow)
                self.channel.subscribe(follow)

    def unwatch(self, follow: _Follow) -> None:
        """Stop to tell a function of the channel's state."""
        with self._watching:
            if follow in self._followers:
                self._followers.remove(follow)
                self.channel.unsubscribe(follow)
                self._watched_until = time.monotonic() + _POLL_SECONDS

    @contextmanager
    def limit_connecting(self, call: Any, attempts: Attempts) -> Iterator[Connecting]:
        """Cancel `call` in the context if its time for connecting ends without a connection."""
        connecting = Connecting(self, call, attempts)
        if not self.is_connected:
            connecting.start()
        try:
            yield connecting
        finally:
            connecting.end()


class Connecting:
    """Waits for the connection that a call needs, and cancels the call at the end of its time.

    `is_missing` is True if there was no connection shortly before the end, `has_expired` after it.
    """

    def __init__(self, link: Link, call: Any, attempts: Attempts) -> None:
        self.is_missing = False
        self.has_expired = False
        self._link = link
        self._call = call
        self._attempts = attempts
        self._has_ended = threading.Event()

    def start(self) -> None:
        """Start to wait, in a thread."""
        threading.Thread(target=self._wait, name="connecting", daemon=True).start()

    def end(self) -> None:
        """End the wait: the channel is connected, or the call has ended."""
        self._has_ended.set()

    def _wait(self) -> None:
        seconds, left = self._attempts.connecting_seconds(), self._attempts.left_seconds()
        # To watch a channel, gRPC runs a thread that fails if the channel is closed meanwhile.
        # Most calls have a reply before they need it.
        unwatched = max(seconds - _WATCHING_SECONDS, seconds / 2)
        unwatched = unwatched if left is None else min(unwatched, left / 2)
        if self._has_ended.wait(unwatched) or self._link.is_connected:
            return
        self.is_missing = True
        self._link.watch(self._follow)
        if not self._has_ended.wait(seconds - unwatched):
            self.has_expired = True
            self._call.cancel()
        self._link.unwatch(self._follow)

    def _follow(self, state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            self._link.is_connected = True
            self.is_missing = False
            self.end()
