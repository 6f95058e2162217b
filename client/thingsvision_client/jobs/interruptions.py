"""Interruptions of a job by its server or its connection, after which the job goes on by itself."""

from __future__ import annotations

from ..display.progress import say
from ..errors import DrainingError, LeaseLostError, StalledError, UnavailableError
from .place import Place
from .record import read_record

_MOST_IN_VAIN = {StalledError: 3, LeaseLostError: 3, DrainingError: 3}
"""How many attempts in turn may complete no chunk, by the error that ended the last."""

_MOST_LOST_IN_VAIN = 1
"""How many may end with the connection, or with the server, which an image of theirs may end."""

_MOST_LOST_SERVERS = 2
"""A call during which so many died is not made again."""


class Interruptions:
    """Decides whether a job goes on after an error.

    It does as long as each attempt completes a chunk. Of attempts that complete none, a few are
    made if the server ended them because it had waited for this client, or shuts down; another is
    made if the reply had begun and the connection broke, or the server died.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._done = self._count_done()
        self._vain_count = 0
        self._last: UnavailableError | None = None

    def go_on_after(self, error: UnavailableError) -> None:
        """Say that the job goes on, or raise the error that ends it."""
        done = self._count_done()
        has_advanced, self._done = done > self._done, done
        self._vain_count = 0 if has_advanced else self._vain_count + 1
        if self._vain_count > _most_in_vain(error):
            if self._last is None:
                raise error
            # What interrupted the job says more than that the next attempt found no server.
            raise self._last from error
        self._last = error
        say(f"{str(error.__cause__ or error).removesuffix('.')}. This job does so now.")

    def _count_done(self) -> int:
        record = read_record(self._place.record)
        return 0 if record is None else record.done


def _most_in_vain(error: UnavailableError) -> int:
    if type(error) is UnavailableError:
        may_go_on = error.reply_had_begun and error.lost_servers < _MOST_LOST_SERVERS
        return _MOST_LOST_IN_VAIN if may_go_on else 0
    return _MOST_IN_VAIN.get(type(error), 0)
