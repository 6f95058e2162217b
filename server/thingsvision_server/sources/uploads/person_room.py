"""The room that one person's uploads have on the disk, while a file of theirs arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...access.person import Person
from ...access.storage_limit import StorageLimit
from .partials import PartialFiles

_CHECK_SECONDS = 1.0


@dataclass
class PersonRoom:
    """Checks that a file of a person fits beside what the person has, of all servers of a folder.

    The person's complete files are counted when a file begins and ends; the partial files of the
    person, which may grow, also while it arrives. So several files that arrive at once may exceed
    the limit by what arrives in a second.
    """

    person: Person
    limit: StorageLimit
    size_bytes: int
    """The announced size of the file."""
    owned_bytes: Callable[[Person], int]
    """Counts the complete files of the person."""
    partials: PartialFiles
    place: Path
    path: Path
    """The opened partial file of the file, which resumes at the place."""
    sender: str
    _owned: int = 0
    _checked_at: float = 0.0

    def check(self) -> None:
        """Raise StorageError if the file does not fit; interrupted uploads of the person go first.

        They are left if the complete files alone leave no room.
        """
        if self.limit.binds(self.person):
            self._owned = self.owned_bytes(self.person)
            self._check()

    def check_again(self) -> None:
        """Check again if the last check was a second ago, without counting complete files."""
        is_late = time.monotonic() - self._checked_at >= _CHECK_SECONDS
        if is_late and self.limit.binds(self.person):
            self._check()

    def _check(self) -> None:
        self._checked_at = time.monotonic()
        most = self.limit.most_bytes or 0
        if self._owned + self.size_bytes <= most < self._used(self.person) + self.size_bytes:
            self.partials.remove_others(self.place, self.sender)
        self.limit.check(self.person, self.size_bytes, self._used, field="size_bytes")

    def _used(self, _person: Person) -> int:
        return self._owned + self.partials.other_bytes(self.place, self.path, self.sender)
