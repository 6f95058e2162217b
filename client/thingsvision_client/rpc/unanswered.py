"""The images of one call that were sent and await their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import BadImage, IncompleteReplyError


class Unanswered:
    """The names of the images sent, in order, until their rows arrive; some never have one.

    One thread sends, another receives.

    Attributes:
        place: Place of the next image whose row may come: of all images, skipped ones included.
        sent_count: Number of images sent.
        bad: The images that were skipped, by place.

    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.place = 0
        self.bad: dict[int, BadImage] = {}
        self._names = deque(names)
        self.sent_count = len(self._names)

    def __iter__(self) -> Iterator[str]:
        """Yield the names that still await a row."""
        names = list(self._names)
        places = range(self.place, self.place + len(names))
        return iter(
            name for place, name in zip(places, names, strict=True) if place not in self.bad
        )

    def add(self, name: str) -> None:
        """Add the next image, which is about to be sent."""
        self._names.append(name)
        self.sent_count += 1

    def add_hole(self, name: str, reason: str) -> None:
        """Add the next image, which can't be sent."""
        self.bad[self.sent_count] = BadImage(self.sent_count, name, reason)
        self.add(name)

    def skip(self, place: int, reason: str) -> bool:
        """Note that the server skips an image; return False if that can't be."""
        at = place - self.place
        if not 0 <= at < len(self._names) or place in self.bad:
            return False
        self.bad[place] = BadImage(place, self._names[at], reason)
        return True

    def pop(self) -> str | None:
        """Return the name of the next image that has a row; None without any."""
        while self._names:
            name, place = self._names.popleft(), self.place
            self.place += 1
            if place not in self.bad:
                return name
        return None

    def last_places(self, count: int) -> list[int]:
        """Return the places of the last `count` images that had a row."""
        found: list[int] = []
        place = self.place
        while len(found) < count:
            place -= 1
            if place not in self.bad:
                found.append(place)
        return found[::-1]

    def skipped(self) -> tuple[BadImage, ...]:
        """Return the images that were skipped, in their order."""
        return tuple(one for _, one in sorted(self.bad.copy().items()))


def note_skipped(skipped: Any, unanswered: Unanswered) -> int:
    """Note the images that a server skipped, and return their number.

    Raises IncompleteReplyError for one that was not sent, or has its row already.
    """
    for image in skipped.images:
        if not unanswered.skip(image.index, image.reason):
            raise IncompleteReplyError(
                f"The reply skips image {image.index}, which does not await its row: try again."
            )
    return len(skipped.images)
