"""A TCP proxy that a test breaks: it cuts connections, falls silent, or dials another server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIECE_BYTES = 64 * 1024


class Proxy:
    """Forwards connections to `target` (host:port), or closes them at once if that is empty.

    Another thread may set the target, and call the methods.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.target = ""
        self.address = ""
        self._loop = loop
        self._ends: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    def cut(self) -> None:
        """Reset all connections, as the system of a killed process does."""
        self._loop.call_soon_threadsafe(self._cut)

    def fall_silent(self) -> None:
        """Forward no byte from now on, and close nothing, as a cable that was pulled."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow_again(self) -> None:
        """Forward bytes again, those of the meantime first."""
        self._loop.call_soon_threadsafe(self._flows.set)

    async def end(self) -> None:
        """Close all connections, and wait until they are."""
        self.target = ""
        self._flows.set()
        while self._ends:
            self._cut()
            await asyncio.sleep(0.01)

    def _cut(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Forward a connection until an end of it closes."""
        self._ends.add(client)
        try:
            if self.target:
                await self._forward_both(reader, client)
        except OSError:
            pass
        finally:
            self._ends.discard(client)
            client.transport.abort()

    async def _forward_both(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        host, port = self.target.rsplit(":", 1)
        answers, server = await asyncio.open_connection(host, int(port))
        self._ends.add(server)
        try:
            await asyncio.gather(self._forward(reader, server), self._forward(answers, client))
        finally:
            self._ends.discard(server)
            server.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(PIECE_BYTES):
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            writer.transport.abort()


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Run a proxy in a thread until the end of the context."""
    started, ended = threading.Event(), asyncio.Event()
    running: list[Proxy] = []

    async def serve() -> None:
        network = Proxy(asyncio.get_running_loop())
        async with await asyncio.start_server(network.connect, "127.0.0.1", 0) as listener:
            host, port = listener.sockets[0].getsockname()
            network.address = f"{host}:{port}"
            running.append(network)
            started.set()
            await ended.wait()
            await network.end()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="proxy", daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield running[0]
    finally:
        running[0]._loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        assert not thread.is_alive(), "the proxy did not stop"
