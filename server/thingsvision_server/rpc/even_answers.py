"""Makes an answer that something is not there take as long as if it were another's.

To look for what nobody has takes another time than to find that it is another's, by a tenth of a
millisecond to some milliseconds; a few hundred calls would tell which. So such answers are given at
the next of certain moments, counted from the beginning of the call.
"""

from __future__ import annotations

import asyncio
import re
import time

from ..access.owners import sees_all
from ..access.person import Person
from ..errors import NotFoundError

_STEP_SECONDS = 0.1
"""More than any of these answers takes on a server that is not overloaded."""

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def may_tell(error: Exception, person: Person | None) -> bool:
    """Return whether a person could learn from an error's time that another has something.

    A digest alone names what others have.
    """
    is_missing = isinstance(error, NotFoundError) and _DIGEST.search(str(error)) is not None
    return is_missing and person is not None and hides_from(person)


def hides_from(person: Person) -> bool:
    """Return whether there may be things that a person must not know of."""
    return person.is_named and not sees_all(person)


async def wait_for_step(started: float) -> None:
    """Wait until a whole number of steps have passed since a moment of `time.monotonic`."""
    await asyncio.sleep(-(time.monotonic() - started) % _STEP_SECONDS)
