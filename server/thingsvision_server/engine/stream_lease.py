"""A stream's lease: given back while the stream waits for its client, and taken again after that.

A lease belongs to work. Clients that send nothing, or read nothing, for a while keep their place
and their rows, but not the model's memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from ..errors import LeaseLostError, ThingsvisionError
from ..monitoring.metrics import Metrics
from ..sources.base import ModelKey
from .models.loading import LoadedModel
from .models.residency import Residency
from .models.resident import Resident
from .passes.stream import BatchStream
from .waiting import Waiting

_QUIET_SECONDS = 0.5
"""Shorter waits are not worth telling."""


class StreamLease:
    """The right of a stream to one model, which is given back after `idle_seconds`."""

    def __init__(
        self, residency: Residency, key: ModelKey, idle_seconds: float, metrics: Metrics
    ) -> None:
        self._residency = residency
        self._key = key
        self._idle_seconds = idle_seconds
        self._metrics = metrics
        self._resident: Resident | None = None

    @property
    def loaded(self) -> LoadedModel:
        """Return the model, while the lease is held."""
        if self._resident is None:
            raise RuntimeError(f"the lease of {self._key} is not held")
        return self._resident.ready.result()

    async def take(self) -> AsyncGenerator[Waiting]:
        """Take the lease, and yield what it waits for: if it has to for a while, at each change.

        Raises what the load raises, or ExhaustedError if there is no memory in time.
        """
        resident, told = self._residency.begin_lease(self._key), Waiting()
        told_from = time.monotonic() + _QUIET_SECONDS
        try:
            async with aclosing(self._residency.wait_until_ready(resident)) as looks:
                async for waiting in looks:
                    if waiting != told and time.monotonic() >= told_from:
                        told = waiting
                        yield waiting
            if told.place:  # it was there before the next look
                yield Waiting()
        except BaseException:
            self._residency.end_lease(resident)
            raise
        self._resident = resident

    def give_back(self) -> None:
        """End the lease, if it is held."""
        if self._resident is not None:
            self._residency.end_lease(self._resident)
            self._resident = None

    @asynccontextmanager
    async def run(self, stream: BatchStream) -> AsyncIterator[None]:
        """Run a stream's images with the leased model while the context lasts."""
        model_sha256 = self.loaded.model.model_sha256
        self.loaded.batcher.attach(stream)
        keeping = asyncio.create_task(self._keep(stream, model_sha256), name="keep lease")
        keeping.add_done_callback(lambda task: _report_failure(task, stream))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            if self._resident is not None:
                self.loaded.batcher.detach(stream)
                self.give_back()

    async def _keep(self, stream: BatchStream, model_sha256: str) -> None:
        while True:
            await stream.wait_until_idle(self._idle_seconds)
            self.loaded.batcher.detach(stream)
            self.give_back()
            self._metrics.lease_returns.inc()
            await stream.wait_until_runnable()
            await self._take_again(stream, model_sha256)
            self.loaded.batcher.attach(stream)

    async def _take_again(self, stream: BatchStream, model_sha256: str) -> None:
        try:
            async with aclosing(self.take()) as waits:
                async for waiting in waits:
                    stream.tell(waiting)
        except ThingsvisionError as error:
            raise self._lost(str(error)) from error
        if self.loaded.model.model_sha256 != model_sha256:
            self.give_back()
            raise self._lost("its weights have changed")

    def _lost(self, reason: str) -> LeaseLostError:
        return LeaseLostError(
            f"{self._key} was given back while the server waited for this call's client "
            f"(--lease-seconds), and can't be had again: {reason}. Make the call again",
            field="model",
            subject=str(self._key),
        )


def _report_failure(task: asyncio.Task[None], stream: BatchStream) -> None:
    if not task.cancelled() and (error := task.exception()):
        stream.fail(error)
