"""Says whose work comes next, from the seconds that each person's work has taken so far.

It is start-time fair queueing (Goyal, Vin and Cheng, 1996) on two levels. Each person has a clock
of used seconds, and whoever has used the least comes next. Who was away comes back with the clock
of whoever is served now: nobody saves up time, and a person's first request is served next. In the
same way the requests of one person share that person's time.

Beside long pieces of work, somebody with short pieces often has none ready in the moment in which
one of several lanes is free. Somebody ahead is served then, whose clock may be a long piece of work
later. Whoever was away for a turn or two only keeps their own clock, and with it what they are due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from .hourly import HourlyUse

Rank = tuple[bool, float, int, float, int]
"""The smallest comes next."""

OnUsed = Callable[[str, float], None]
"""Is told how many seconds a person's work has taken."""


def count_nothing(_person: str, _seconds: float) -> None:
    """Do without a count of who has used how much."""


_KEPT_TURNS = 3
"""Turns of others after which somebody without work was away."""
_KEPT_PIECES = 2
"""How far a clock that is kept may be behind, in pieces of work of the longest kind."""
_FADING = 0.99


@dataclass
class _Clock:
    """The seconds used by a person or a request, and how many pieces of its work run now."""

    seconds: float = 0.0
    running: int = 0
    seen: float = -inf
    """The turn at which there was work of theirs."""


@dataclass
class _Turns:
    """Turns among clocks."""

    served: float = 0.0
    """The clock of whoever was served last, at its latest."""
    count: int = 0
    longest: float = 0.0
    """About the longest that a piece of work has taken lately, seconds."""

    def look(self, clock: _Clock) -> float:
        """Return the clock of who has work now, and may have been away."""
        is_new = not clock.running and self.count - clock.seen > _KEPT_TURNS
        least = self.served - (0.0 if is_new else _KEPT_PIECES * self.longest)
        clock.seconds = max(clock.seconds, least)
        clock.seen = self.count
        return clock.seconds

    def lead(self, clock: _Clock) -> None:
        """Note whose turn it is."""
        self.served = max(self.served, clock.seconds)
        self.count += 1

    def observe(self, seconds: float) -> None:
        """Note how long a piece of work is expected to take, or takes beyond that."""
        self.longest = max(seconds, _FADING * self.longest)


@dataclass
class _Person(_Clock):
    turns: _Turns = field(default_factory=_Turns)
    """Among the requests."""
    accounts: int = 0
    """Open requests."""
    hour: HourlyUse = field(default_factory=HourlyUse)


@dataclass(eq=False)
class Account:
    """The clock of one request, beside the clock of its person."""

    person: _Person
    clock: _Clock = field(default_factory=_Clock)


class FairOrder:
    """Orders the work of all people; of one thread, or under a lock of its user."""

    def __init__(self, hourly_seconds: float = 0.0) -> None:
        self._hourly_seconds = hourly_seconds
        """Who has used more within an hour comes after all others; 0: nobody does."""
        self._people: dict[str, _Person] = {}
        self._turns = _Turns()

    def open(self, name: str) -> Account:
        """Return the account of a new request of a person; close it when the request ends."""
        person = self._people.setdefault(name, _Person())
        person.accounts += 1
        return Account(person)

    def close(self, account: Account) -> None:
        """Forget a request; a person who has used more than others stays known until they have.

        Nobody owes anything any more once no request is left.
        """
        account.person.accounts -= 1
        if not any(person.accounts or person.running for person in self._people.values()):
            self._turns.served = max(person.seconds for person in self._people.values())
        self._people = {
            name: person
            for name, person in self._people.items()
            if person.accounts
            or person.running
            or person.seconds > self._turns.served
            or (self._hourly_seconds and person.hour.seconds(self._hourly_seconds))
        }

    def rank(self, account: Account) -> Rank:
        """Return the rank of a request's next piece of work, which is ready."""
        person, clock = account.person, account.clock
        return (
            self._is_over(person),
            self._turns.look(person),
            person.running,
            person.turns.look(clock),
            clock.running,
        )

    def lead(self, account: Account, other: Account) -> float:
        """Return how many seconds more than another a request has used: its person, if they differ.

        What its person saved up while away does not count.
        """
        person = account.person
        if person is other.person:
            return person.turns.look(account.clock) - person.turns.look(other.clock)
        return self._turns.look(person) - self._turns.look(other.person)

    def begin(self, account: Account, seconds: float, *, leads: bool = True) -> None:
        """Charge a piece of work that begins now with the seconds that it is expected to take.

        `leads` is false for work that came along with the work whose turn it was.
        """
        for turns, clock in self._levels(account):
            turns.look(clock)
            if leads:
                turns.lead(clock)
            turns.observe(seconds)
            clock.seconds += seconds
            clock.running += 1
        account.person.hour.add(seconds)

    def end(self, account: Account, more_seconds: float) -> None:
        """Note that a piece of work has ended, and took more seconds than expected, or fewer."""
        for turns, clock in self._levels(account):
            turns.observe(more_seconds)
            clock.seconds += more_seconds
            clock.running -= 1
            clock.seen = turns.count
        account.person.hour.add(more_seconds)

    def _is_over(self, person: _Person) -> bool:
        limit = self._hourly_seconds
        return bool(limit) and person.hour.seconds(limit) > limit

    def _levels(self, account: Account) -> tuple[tuple[_Turns, _Clock], ...]:
        return (self._turns, account.person), (account.person.turns, account.clock)

    @property
    def person_count(self) -> int:
        """Return how many people have a clock."""
        return len(self._people)
