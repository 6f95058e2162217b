"""Limits what the calls of one person hold at a time: images, and bytes of inputs and rows.

A call holds one batch from its start to its end, or is refused; so each call can always go on. It
holds more batches while there is room for them, and else waits to read its next images.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

from ...errors import TooManyCallsError
from .call_ends import CallEnds


@dataclass(frozen=True)
class Load:
    """Images, and the bytes of their inputs and rows."""

    images: int = 0
    byte_count: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.images + other.images, self.byte_count + other.byte_count)

    def __mul__(self, count: int) -> Load:
        return Load(self.images * count, self.byte_count * count)

    def fits(self, most: Load) -> bool:
        """Return whether it is no more than a limit."""
        return self.images <= most.images and self.byte_count <= most.byte_count


UNLIMITED = Load(2**62, 2**62)


@dataclass(eq=False)
class _Holder:
    """What a person's calls hold, and which of them wait for more."""

    load: Load = field(default_factory=Load)
    calls: int = 0
    ends: CallEnds = field(default_factory=CallEnds)
    waiting: deque[tuple[Load, asyncio.Future[bool]]] = field(default_factory=deque)


class InFlight:
    """What the calls of each person hold. All state belongs to one event loop."""

    def __init__(self, most: Load = UNLIMITED) -> None:
        self.most = most
        self._people: dict[str, _Holder] = {}

    @contextmanager
    def open(self, person: str, batch: Load) -> Iterator[Held]:
        """Hold a batch of a person's call while the context lasts, and more as it goes on.

        Raises TooManyCallsError if the person's other calls leave no room for a batch.
        """
        holder = self._people.setdefault(person, _Holder())
        if holder.calls and not (holder.load + batch).fits(self.most):
            raise self._refusal(person, holder, batch)
        holder.calls += 1
        holder.load += batch
        held = Held(self, holder, batch)
        try:
            with holder.ends.timing():
                yield held
        finally:
            holder.calls -= 1
            held.give_back_all()
            if not holder.calls:
                del self._people[person]

    def admit(self, holder: _Holder) -> None:
        """Let calls of a person that wait have more, in the order in which they asked."""
        while holder.waiting:
            load, turn = holder.waiting[0]
            if not turn.done():
                if not (holder.load + load).fits(self.most):
                    return
                holder.load += load
                turn.set_result(True)
            holder.waiting.popleft()

    def _refusal(self, person: str, holder: _Holder, batch: Load) -> TooManyCallsError:
        is_full = holder.load.images + batch.images > self.most.images
        option = "--person-images" if is_full else "--person-memory"
        limit = f"{self.most.images:,} images" if is_full else f"{self.most.byte_count:,} bytes"
        return TooManyCallsError(
            f"{holder.calls:,} calls of {person} hold {holder.load.images:,} images in "
            f"{holder.load.byte_count:,} bytes, and a batch of another has {batch.images:,} in "
            f"{batch.byte_count:,}; this server allows one person {limit} ({option}): try again "
            "when a call has ended, or use smaller batches",
            subject=person,
            retry_seconds=holder.ends.expected_seconds(holder.calls),
        )


class Held:
    """The batches that one call holds."""

    def __init__(self, all_calls: InFlight, holder: _Holder, batch: Load) -> None:
        self._all = all_calls
        self._holder = holder
        self._batch = batch
        self._held_count = 1
        self._begun_count = self._read_count = 0
        self._turn: asyncio.Future[bool] | None = None
        """Waits for another batch; its result says whether the call holds one more."""

    async def begin_image(self) -> None:
        """Wait until the call may hold the next image."""
        wanted = self._batches(self._begun_count + 1)
        if wanted > self._held_count:
            await self._hold_more()
        self._begun_count += 1

    def end_images(self, count: int) -> None:
        """Give back what images held whose rows were read; the call keeps one batch."""
        self._read_count += count
        is_enough = self._batches(self._begun_count + 1) <= self._held_count
        if is_enough and self._turn is not None and not self._turn.done():
            self._turn.set_result(False)  # the batch that it holds is free for the next images
        self._give_back(self._held_count - self._batches(self._begun_count))

    def give_back_all(self) -> None:
        """Give everything back: the call has ended."""
        self._give_back(self._held_count)

    def _batches(self, begun_count: int) -> int:
        """Return how many batches images hold that have begun, up to this, and were not read."""
        size = max(1, self._batch.images)
        return max(1, ceil(begun_count / size) - self._read_count // size)

    async def _hold_more(self) -> None:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._turn = turn
        self._holder.waiting.append((self._batch, turn))
        self._all.admit(self._holder)
        try:
            self._held_count += await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was admitted in this moment
                self._held_count += turn.result()
                self._give_back(int(turn.result()))
            raise

    def _give_back(self, count: int) -> None:
        if count > 0:
            self._held_count -= count
            self._holder.load += self._batch * -count
        self._all.admit(self._holder)
