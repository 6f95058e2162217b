"""Says whose cached images are, and shares, gives away and deletes them for their owners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...access.owners import EVERYBODY, OPERATOR, Ownership, audience, sees_all
from ...access.person import Person
from ...errors import PermissionDeniedError
from .pools import Pool, owner_of
from .store import ImageStore

EVERY_OWNER = "*"
"""In the place of an owner's name: the images of all."""


@dataclass(frozen=True)
class CachedImage:
    """A cached image, as a person may know of it.

    Attributes:
        sha256: The digest of its file.
        size_bytes: The length of its file.
        owners: Whose it is, as far as the person may know: the person, and who shares it.
        is_shared: Whether it is shared; of what is the person's, by the person.

    """

    sha256: bytes
    size_bytes: int
    owners: tuple[str, ...]
    is_shared: bool


class OwnedImages:
    """The cached images of a store, by their owners. All methods may block; threads may share it.

    Raises PermissionDeniedError where a person asks for what only an admin may do.
    """

    kind = "image"

    def __init__(self, store: ImageStore) -> None:
        self._store = store

    def images(self, person: Person) -> Iterator[CachedImage]:
        """Yield the images that a person may see; a person's own hides that others share it."""
        for digest, size, pools in self._store.listed(person):
            rows = _rows(pools, person)
            names = tuple(dict.fromkeys(row.owner for row in rows))
            yield CachedImage(digest, size, names, rows[0].is_shared)

    def ownership(self, sha256: str, person: Person) -> Sequence[Ownership]:
        """Return whose an image is, as far as a person may know; empty if it is not there."""
        pools = self._store.pools_of(bytes.fromhex(sha256))
        return _rows([one for one in pools if one.may_see(person)], person)

    def share(self, sha256: str, person: Person, *, shared: bool) -> bool:
        """Share an image with the person's group or everybody, or stop sharing it.

        An admin who does not own it changes it for its owners, with everybody. Returns False if it
        is not the person's to share.
        """
        digest = bytes.fromhex(sha256)
        pools = self._store.pools_of(digest)
        own = [one for one in pools if one.is_of(person)]
        whom = audience(person) if own else EVERYBODY
        found = own or (pools if sees_all(person) else [])
        for pool in found:
            owner = pool.owner or OPERATOR
            self._store.move([digest], pool, Pool(owner, whom) if shared else Pool(owner, ""))
        return bool(found)

    def check_gift(self, old: str, new: str) -> None:
        """Do nothing: cached images beyond what a person may have are evicted, not refused."""

    def move_owner(self, old: str, new: str) -> int:
        """Give all images of a person to another, shared or not as they are."""
        count = 0
        for pool in self._pools_of(old):
            target = Pool(owner_of(new), pool.shared_with)
            count += self._store.move(self._store.digests([pool]), pool, target)
        return count

    def delete(self, digests: Iterable[bytes], person: Person) -> tuple[int, int]:
        """Delete images of a person's, an admin's for all owners; others' are left.

        Returns how many were deleted, and the bytes freed on the disk: none while others own them.
        """
        pools = [one for one in self._store.pools() if one.is_of(person) or sees_all(person)]
        return self._store.delete(digests, pools)

    def delete_all(self, person: Person, owner: str = "") -> tuple[int, int]:
        """Delete all images of a person; of another owner, or `EVERY_OWNER`, for an admin."""
        if owner and not sees_all(person) and owner != person.name:
            raise PermissionDeniedError(
                f"the images of {'others' if owner == EVERY_OWNER else owner} can be deleted by an "
                "admin alone: leave `owner` out to delete yours",
                field="owner",
                subject=owner,
            )
        own = [one for one in self._store.pools() if one.is_of(person)]
        pools = self._pools_of(owner) if owner else own
        return self._store.delete(self._store.digests(pools), pools)

    def _pools_of(self, owner: str) -> list[Pool]:
        pools = self._store.pools()
        wanted = owner_of(owner)
        return [one for one in pools if owner == EVERY_OWNER or one.owner_name == wanted]


def _rows(pools: Iterable[Pool], person: Person) -> list[Ownership]:
    """Return what a person is told of these pools: the own row first, and for no admin alone."""
    pools = sorted(pools, key=lambda pool: not pool.is_of(person))
    if pools and pools[0].is_of(person) and not sees_all(person):
        pools = [pool for pool in pools if pool.is_of(person)]
    return [Ownership(pool.owner_name, pool.shared_with) for pool in pools]
