"""Limits the files that calls have received and that wait to be decoded: of a call, of a person.

A call reads no further image while it, or its person, holds too much; so files wait in the client.
Only waiting for a file takes no room, and a file that has arrived always goes on to its decoder: no
call waits for another's client. A person holds at most the limit, and what each of the person's
calls was reading when the limit was reached: one more file.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Holder:
    """What the files of a person's calls hold, and which calls wait to read their next."""

    calls: int = 0
    held_bytes: int = 0
    waiting: deque[tuple[CallFiles, asyncio.Future[None]]] = field(default_factory=deque)


class WaitingFiles:
    """The files of each person's calls that wait. All state belongs to one event loop."""

    def __init__(self, call_bytes: int, person_bytes: int) -> None:
        self.call_bytes = call_bytes
        self.person_bytes = person_bytes
        self._people: dict[str, _Holder] = {}

    @contextmanager
    def open(self, person: str) -> Iterator[CallFiles]:
        """Count the files of a person's call while the context lasts."""
        holder = self._people.setdefault(person, _Holder())
        holder.calls += 1
        call = CallFiles(self, holder)
        try:
            yield call
        finally:
            holder.calls -= 1
            call.give_back(call.held_bytes)
            if not holder.calls:
                del self._people[person]

    def held_bytes(self, person: str) -> int:
        """Return what the files of a person's calls hold."""
        holder = self._people.get(person)
        return 0 if holder is None else holder.held_bytes

    def has_room(self, holder: _Holder, call: CallFiles) -> bool:
        """Return whether a call of a person may read another file, if no other waits to."""
        return holder.held_bytes < self.person_bytes and call.held_bytes < self.call_bytes

    def admit(self, holder: _Holder) -> None:
        """Let calls read their next file, in the order in which they began to wait.

        Near the limit one at a time: all at once would each bring a file.
        """
        is_near = holder.held_bytes > self.person_bytes // 2
        still: deque[tuple[CallFiles, asyncio.Future[None]]] = deque()
        room = (
            0 if holder.held_bytes >= self.person_bytes else 1 if is_near else len(holder.waiting)
        )
        for call, turn in holder.waiting:
            if turn.done():
                continue
            if room and call.held_bytes < self.call_bytes:
                room -= 1
                turn.set_result(None)
            else:
                still.append((call, turn))
        holder.waiting = still


class CallFiles:
    """The files of one call that wait."""

    def __init__(self, files: WaitingFiles, holder: _Holder) -> None:
        self._files = files
        self._holder = holder
        self.held_bytes = 0

    async def wait_for_room(self) -> None:
        """Wait until the call may read its next file."""
        if not self._holder.waiting and self._files.has_room(self._holder, self):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holder.waiting.append((self, turn))
        self._files.admit(self._holder)
        if not turn.done():
            await turn

    def take(self, byte_count: int) -> None:
        """Count a file that has arrived."""
        self.held_bytes += byte_count
        self._holder.held_bytes += byte_count

    def give_back(self, byte_count: int) -> None:
        """Count a file no more: it was decoded, or its call has ended."""
        self.held_bytes -= byte_count
        self._holder.held_bytes -= byte_count
        if self._holder.waiting:
            self._files.admit(self._holder)
