"""Limits of what one person may have in progress at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.fairness.call_ends import CallEnds
from ..errors import TooManyCallsError


class PersonLimits:
    """Counts the calls of each person. All state belongs to one event loop.

    Calls with one message have a count of their own: streams make such calls on their way, and
    would wait for each other.
    """

    def __init__(self, max_calls: int) -> None:
        self.max_calls = max_calls
        self._calls: Counter[tuple[str, bool]] = Counter()
        self._ends: dict[tuple[str, bool], CallEnds] = {}

    @contextmanager
    def enter(self, person: str, *, is_stream: bool) -> Iterator[None]:
        """Count a call of a person while the context lasts.

        Raises TooManyCallsError if the person has as many calls in progress as are allowed.
        """
        key = person, is_stream
        ends = self._ends.setdefault(key, CallEnds())
        if self._calls[key] >= self.max_calls:
            raise TooManyCallsError(
                f"{person} has {self.max_calls:,} calls in progress, as many as this server allows "
                "one person (--person-calls): try again when one of them has ended",
                subject=person,
                retry_seconds=ends.expected_seconds(self._calls[key]),
            )
        self._calls[key] += 1
        try:
            with ends.timing():
                yield
        finally:
            self._calls[key] -= 1
            if not self._calls[key]:
                del self._calls[key], self._ends[key]
