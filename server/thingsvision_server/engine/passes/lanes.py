"""The lanes of a device, each a thread that runs its work, and the turns to use them.

A GPU has two lanes: one copies while the other computes. A CPU has several, each with its share of
the cores: passes side by side are faster than one pass after another on all cores. There a turn may
have more cores, for the last batches of a job (see `cores`) or for the one image that somebody
waits for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ...threads import start_threads
from ..fairness.order import FairOrder
from .busy_clock import BusyClock
from .core_pool import CorePool, Gap, Grant, Rank, Wish

T = TypeVar("T")

IDLE_SECONDS = 30.0
"""After so long without work, `on_idle` is called in a lane, to release cached memory."""


@dataclass(frozen=True)
class Cores:
    """The cores of a machine; `use` sets how many the calling thread's operations use.

    It raises RuntimeError if the system has no threads left for them.
    """

    count: int
    use: Callable[[int], None]


class DeviceLanes:
    """Runs as many pieces of work at a time as there are lanes (`width`), by rank, then arrival."""

    def __init__(
        self,
        device: str,
        cores: Cores,
        width: int = 1,
        *,
        on_idle: Callable[[], None] | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        clock: BusyClock | None = None,
        hardware: str = "",
        hourly_seconds: float = 0.0,
    ) -> None:
        self.device = device
        self.hardware = hardware
        self.width = width
        self._cores = cores
        # Lanes of a machine with fewer cores have a core each, too.
        self._all_shares = max(cores.count, width)
        self._pool = CorePool(self._all_shares, width, self.kept_cores)
        self._on_idle = on_idle
        self._on_error = on_error
        self._clock = clock or BusyClock(lambda _seconds: None)
        self.order = FairOrder(hourly_seconds)
        """Whose pass comes next, of all models on the device."""
        self._rest: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(width, f"lane-{device}")
        start_threads(self._threads, width, partial(cores.use, self.lane_cores))

    async def turn(self, wish: Wish | int = 0) -> Turn:
        """Wait for a free lane with so many cores, and take it; 0: its share of the cores.

        A wish may change while it waits. Choose the work only after that, and end the turn.
        """
        wanted = (lambda _gap: ((), wish)) if isinstance(wish, int) else wish

        def counted(gap: Gap) -> tuple[Rank, int] | None:
            found = wanted(gap)
            return found and (found[0], self._cores_of(found[1]))

        try:
            grant = await self._pool.take(counted)
        except asyncio.CancelledError:
            self._rest_if_idle()
            raise
        self._stop_rest()
        return Turn(self, grant)

    def run(self, work: Callable[[], T], cores: int = 0, *, least: int = 0) -> asyncio.Future[T]:
        """Start work in a lane's thread, on the lane's share of the cores unless `cores` is given.

        With fewer cores, `least`, if the system has no threads left; if that is 0, it fails then.
        It runs to its end even if nobody waits for it any more.
        """
        counts = [cores or self.lane_cores, *([least] if least else [])]
        start = partial(_on_cores, self._cores, counts, work)
        running = asyncio.get_running_loop().run_in_executor(self._threads, start)
        self._clock.begin()
        running.add_done_callback(self._end)
        return running

    def _end(self, running: asyncio.Future[T]) -> None:
        """Count the time; report a failure even if nobody waits for the work any more."""
        self._clock.end()
        failed = None if running.cancelled() else running.exception()
        if failed is not None and self._on_error is not None:
            self._on_error(failed)

    def resize(self, grant: Grant, cores: int) -> bool:
        """Change the cores of a turn, 0: the share of a lane; False: it would have to wait."""
        return self._pool.exchange(grant, self._cores_of(cores))

    def release(self, grant: Grant) -> None:
        """Take a turn back."""
        self._pool.give_back(grant)
        self._rest_if_idle()

    @property
    def uses_one_lane(self) -> bool:
        """Tell whether exactly one lane is in use."""
        return self.busy_count == 1

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody waits for a lane."""
        return self._pool.is_wanted

    @property
    def busy_count(self) -> int:
        """Return how many lanes are in use."""
        return self._pool.user_count

    @property
    def free_count(self) -> int:
        """Return how many lanes nobody uses or waits for."""
        return self._pool.free_cores // self.lane_cores

    @property
    def all_cores(self) -> int:
        """Return the number of cores of all lanes together."""
        return self._cores.count

    @property
    def lane_cores(self) -> int:
        """Return the number of cores that are the share of a lane."""
        return max(1, self._cores.count // self.width)

    def share(self, cores: int) -> float:
        """Return which part of the device a turn with so many cores takes."""
        return cores / self.all_cores if self.device == "cpu" else 1 / self.width

    def close(self) -> None:
        """Finish the work of the threads, then end them."""
        self._stop_rest()
        self._threads.shutdown(wait=True)

    def kept_cores(self, cores: int) -> int:
        """Return how many cores a turn keeps from others: the share of a lane at least."""
        is_wide = self.lane_cores < self.all_cores <= cores
        return self._all_shares if is_wide else max(cores, self.lane_cores)

    def _cores_of(self, wanted: int) -> int:
        return min(wanted or self.lane_cores, self.all_cores)

    def _rest_if_idle(self) -> None:
        self._stop_rest()
        if not self._pool.user_count and self._on_idle is not None:
            loop = asyncio.get_running_loop()
            self._rest = loop.call_later(IDLE_SECONDS, self.run, self._on_idle)

    def _stop_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()


class Turn:
    """A taken lane; `end` gives it back."""

    def __init__(self, lanes: DeviceLanes, grant: Grant) -> None:
        self._lanes = lanes
        self._grant = grant
        self.device_seconds = 0.0
        """What its work has taken so far, as seconds of the whole device."""
        self._least_cores = 0
        self._shared_cores = 0

    @property
    def cores(self) -> int:
        """Return on how many cores its work runs."""
        return self._shared_cores or self._grant.cores

    @property
    def gap(self) -> Gap:
        """Return what its work has to fit into: others may wait for the cores."""
        return self._grant.gap

    def use(self, cores: int, *, keeps: bool = True) -> bool:
        """Run the work on this many cores, 0: the share of a lane; False if they are not free.

        Without `keeps`, it keeps only a lane from others, and the system shares the cores out.
        """
        if not keeps:
            self._shared_cores = min(cores, self._lanes.all_cores)
            return True
        return self._lanes.resize(self._grant, cores)

    def widen(self, *, keeps: bool = True) -> None:
        """Use all cores of a CPU, as `use` does, if no other lane is in use or wanted."""
        before = self.cores
        if self._lanes.device == "cpu" and self._lanes.uses_one_lane:
            did_widen = self.use(self._lanes.all_cores, keeps=keeps)
            self._least_cores = before if did_widen else 0

    def expect(self, device_seconds: float) -> None:
        """Tell how long the work that begins now will take, as seconds of the whole device."""
        seconds = device_seconds / self._lanes.share(self.cores)
        self._grant.ends_at = time.monotonic() + seconds

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start work; it runs to its end even if nobody waits for it any more."""
        started, share = time.monotonic(), self._lanes.share(self.cores)

        def count(_running: asyncio.Future[T]) -> None:
            self.device_seconds += (time.monotonic() - started) * share

        running = self._lanes.run(work, self.cores, least=self._least_cores)
        running.add_done_callback(count)
        return running

    def end(self) -> None:
        """Give the lane back."""
        self._lanes.release(self._grant)


def _on_cores(cores: Cores, counts: list[int], work: Callable[[], T]) -> T:
    """Do work on the first of several numbers of cores for which there are threads."""
    count, *less = counts
    try:
        cores.use(count)
    except RuntimeError:
        if not less:
            raise
        return _on_cores(cores, less, work)
    return work()
