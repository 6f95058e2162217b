"""Limits the bytes of one kind of things that each person may own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import StorageError
from .owners import OPERATOR, owner_name
from .person import Person


@dataclass
class StorageLimit:
    """The bytes of one kind of things that each person may own; what several own counts for each.

    Attributes:
        kind: What the things are called, such as `PCAs`.
        option: The option of the server that sets the limit.
        remedy: How a person makes room.
        most_bytes: The limit; None for none.

    """

    kind: str
    option: str
    remedy: str
    most_bytes: int | None = None

    def binds(self, person: Person) -> bool:
        """Return whether a person has the limit: a machine has none, nor has the operator."""
        return self.most_bytes is not None and owner_name(person) != OPERATOR

    def check(
        self, person: Person, size_bytes: int, used_bytes: Callable[[Person], int], *, field: str
    ) -> None:
        """Raise StorageError if so many bytes more exceed the limit of a person.

        `used_bytes` counts what the person has; it is called only for who has the limit.
        """
        if self.most_bytes is None or not self.binds(person):
            return
        used = used_bytes(person)
        if used + size_bytes > self.most_bytes:
            raise StorageError(
                f"no room for {size_bytes:,} bytes: {self.kind} of {person.name} use {used:,} of "
                f"the {self.most_bytes:,} bytes that one person may have on this server "
                f"({self.option}). {self.remedy}, or ask the operator for a larger limit",
                field=field,
                subject=person.name,
            )

    def check_gift(
        self, old: str, taker: Person, size_bytes: int, used_bytes: Callable[[Person], int]
    ) -> None:
        """Raise StorageError if what is another's, so many bytes, exceeds a person's limit."""
        if self.most_bytes is None or not self.binds(taker) or not size_bytes:
            return
        used = used_bytes(taker)
        if used + size_bytes > self.most_bytes:
            raise StorageError(
                f"{self.kind} of {old} have {size_bytes:,} bytes that {taker.name} does not own, "
                f"and {taker.name} uses {used:,} of the {self.most_bytes:,} bytes that one person "
                f"may have on this server ({self.option}); nothing was given away. Have some "
                f"deleted, set a larger limit, or give {taker.name} more than the limit "
                "(over_quota=True): nothing can be added then until enough is deleted",
                field="new",
                subject=taker.name,
            )
