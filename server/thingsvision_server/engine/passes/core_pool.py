"""Hands out the cores of a machine; of those who wait, whoever has the lowest rank comes first.

Who needs more cores than are free waits for passes to end. Nobody takes the free cores before them,
or they would wait for ever; but work that ends before those passes do may use the cores meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

Rank = tuple[float, ...]


@dataclass(frozen=True)
class Gap:
    """What work has to fit into: so many cores, for so many seconds."""

    cores: float = inf
    seconds: float = inf

    @property
    def is_limited(self) -> bool:
        """Tell whether somebody waits for the cores."""
        return self.seconds < inf


ANY = Gap()
"""Has room for all work."""

Wish = Callable[[Gap], tuple[Rank, int] | None]
"""Returns the rank and the cores of work that fits into a gap, None if there is none now.

It may change while its user waits. Who wants nothing is asked again when cores are given back.
"""


@dataclass(eq=False)
class Grant:
    """Cores that somebody has, and the gap that their work was chosen for."""

    cores: int
    gap: Gap = ANY
    ends_at: float = 0.0
    """When they are expected back, by the monotonic clock; in the past: not known."""


@dataclass(eq=False)
class _Waiter:
    wish: Wish
    granted: asyncio.Future[Grant]


def _same(cores: int) -> int:
    return cores


class CorePool:
    """Gives cores to at most `width` users at a time; equal ranks come in the order of asking.

    `keeps` says how many cores a user keeps from others who is given so many.
    """

    def __init__(self, cores: int, width: int, keeps: Callable[[int], int] = _same) -> None:
        self._free_cores = cores
        self._width = width
        self._keeps = keeps
        self._waiters: list[_Waiter] = []
        self._grants: list[Grant] = []

    @property
    def user_count(self) -> int:
        """Return how many have cores."""
        return len(self._grants)

    @property
    def free_cores(self) -> int:
        """Return the cores that could be taken now."""
        return 0 if self.is_wanted or self.user_count == self._width else self._free_cores

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody waits for cores."""
        return any(not one.granted.done() and one.wish(ANY) for one in self._waiters)

    async def take(self, wish: Wish) -> Grant:
        """Wait until it is this user's turn and the cores are free, and take them."""
        waiter = _Waiter(wish, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._grant()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._grant()  # those behind it may go
            else:
                self.give_back(waiter.granted.result())
            raise

    def give_back(self, grant: Grant) -> None:
        """Give cores back."""
        self._grants.remove(grant)
        self._free_cores += self._keeps(grant.cores)
        self._grant()

    def exchange(self, grant: Grant, cores: int) -> bool:
        """Have `cores` in the place of those granted; return False if they are not free now."""
        more = self._keeps(cores) - self._keeps(grant.cores)
        if more > 0 and (self.is_wanted or more > self._free_cores):
            return False
        grant.cores = cores
        self._free_cores -= more
        self._grant()
        return True

    def _grant(self) -> None:
        self._waiters = [one for one in self._waiters if not one.granted.cancelled()]
        while self._waiters and self.user_count < self._width:
            found = self._first(ANY)
            gap = ANY
            if found is not None and self._keeps(found[1]) > self._free_cores:
                gap = Gap(self._free_cores, self._seconds_until_free(self._keeps(found[1])))
                found = self._first(gap) if gap.cores and gap.seconds > 0 else None
            if found is None:
                return
            waiter, cores = found
            grant = Grant(cores, gap)
            self._grants.append(grant)
            self._free_cores -= self._keeps(cores)
            self._waiters.remove(waiter)
            waiter.granted.set_result(grant)

    def _first(self, gap: Gap) -> tuple[_Waiter, int] | None:
        """Return who comes first of all whose work fits into a gap, and the cores they want."""
        wishes = [(one.wish(gap), one) for one in self._waiters]
        fitting = [
            (wish, one) for wish, one in wishes if wish and self._keeps(wish[1]) <= gap.cores
        ]
        if not fitting:
            return None
        (_, cores), waiter = min(fitting, key=lambda pair: pair[0][0])
        return waiter, cores

    def _seconds_until_free(self, cores: int) -> float:
        """Return in how many seconds so many cores are expected to be free; 0: not known."""
        free = self._free_cores
        for grant in sorted(self._grants, key=lambda one: one.ends_at):
            free += self._keeps(grant.cores)
            if free >= cores:
                return max(0.0, grant.ends_at - time.monotonic())
        return 0.0
