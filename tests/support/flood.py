"""One process that shows wrong tokens as fast as it can, over several connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from support.lab import bearer
from support.server_process import run_in_template

METHOD = "/thingsvision.v1.ModelService/GetResidency"
_CHANNELS, _CALLS = 8, 40
"""More of them don't make more calls a second."""

_COUNT_SECONDS = 0.2


class Flood:
    """What the process counts: calls that were refused."""

    def __init__(self, counts: Path) -> None:
        self._counts = counts
        self._began = time.monotonic()

    @property
    def refused_count(self) -> int:
        """How many calls were refused so far."""
        return int(self._counts.read_text() or 0) if self._counts.exists() else 0

    @property
    def rate(self) -> float:
        """Calls a second that were refused."""
        return self.refused_count / (time.monotonic() - self._began)


@contextmanager
def flood(address: str, token: str, folder: Path) -> Iterator[Flood]:
    """Attack a server without TLS in the context."""
    counts = folder / "refused"
    attacker = run_in_template(_attack, address, token, str(counts))
    try:
        deadline = time.monotonic() + 30
        while not counts.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield Flood(counts)
    finally:
        attacker.kill()
        attacker.join(10)


def _attack(address: str, token: str, counts: str) -> None:
    asyncio.run(_call_for_ever(address, token, Path(counts)))


async def _call_for_ever(address: str, token: str, counts: Path) -> None:
    refused = 0
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CHANNELS)]

    async def repeat(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        nonlocal refused
        while True:
            try:
                await call(b"", metadata=bearer(token))
            except grpc.aio.AioRpcError as error:
                refused += error.code() is grpc.StatusCode.UNAUTHENTICATED

    calls = [channel.unary_unary(METHOD) for channel in channels for _ in range(_CALLS)]
    tasks = [asyncio.create_task(repeat(call)) for call in calls]
    while tasks:
        await asyncio.sleep(_COUNT_SECONDS)
        part = counts.with_suffix(".part")
        part.write_text(str(refused))
        part.rename(counts)
