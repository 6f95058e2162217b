"""Counts cached images by who sent them, the least recently used first."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from .pools import Pool


class Share:
    """Images of one pool that count for one sender: sizes by digest, least recently used first."""

    def __init__(self, pool: Pool, sender: str) -> None:
        self.pool = pool
        self.sender = sender
        self.folder = pool.folder
        self.sizes: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0


class Shares:
    """All shares, and which of them have an image. Not thread-safe.

    An image that several shares have is one file if `counts_once`: the disk has links.
    """

    def __init__(self, *, counts_once: bool = True) -> None:
        self.used_bytes = 0
        self._counts_once = counts_once
        self._shares: dict[tuple[Pool, str], Share] = {}
        self._holders: dict[bytes, tuple[Share, ...]] = {}
        self._alone: dict[Share, tuple[Share, ...]] = {}
        """The holders of images that only one share has: one object for all of them."""

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares.values())

    def holders(self, digest: bytes) -> tuple[Share, ...]:
        """Return the shares that have an image."""
        return self._holders.get(digest, ())

    def find(self, digest: bytes, pool: Pool) -> Share | None:
        """Return the share of a pool that has an image."""
        return next((one for one in self.holders(digest) if one.pool == pool), None)

    def add(self, digest: bytes, size: int, pool: Pool, sender: str = "") -> None:
        """Count an image for a sender, as just used; a pool has it for one sender alone."""
        if self.find(digest, pool) is not None:
            return
        share = self._shares.get((pool, sender))
        if share is None:
            share = self._shares[pool, sender] = Share(pool, sender)
            self._alone[share] = (share,)
        share.sizes[digest] = size
        share.used_bytes += size
        before = self.holders(digest)
        self._holders[digest] = (*before, share) if before else self._alone[share]
        if not (before and self._counts_once):
            self.used_bytes += size

    def remove(self, digest: bytes, share: Share) -> None:
        """Count an image of a share no more."""
        size = share.sizes.pop(digest, None)
        if size is None:
            return
        share.used_bytes -= size
        rest = tuple(one for one in self.holders(digest) if one is not share)
        if rest:
            self._holders[digest] = self._alone[rest[0]] if len(rest) == 1 else rest
        else:
            del self._holders[digest]
        if not (rest and self._counts_once):
            self.used_bytes -= size
        if not share.sizes:
            del self._shares[share.pool, share.sender]
            del self._alone[share]

    def owned_bytes(self, owner: str) -> int:
        """Return the bytes of an owner's images; an image of several owners counts for each."""
        return sum(one.used_bytes for one in self if one.pool.owner == owner)

    def owners(self) -> set[str]:
        """Return the owners who have a name."""
        return {one.pool.owner for one in self if one.pool.owner}

    def largest_of(self, owner: str) -> Share | None:
        """Return the largest share of an owner."""
        own = (one for one in self if one.pool.owner == owner)
        return max(own, key=lambda one: one.used_bytes, default=None)

    def largest(self) -> Share | None:
        """Return the share to remove from: the larger one of the owner who uses the most space."""
        by_owner: defaultdict[tuple[str, str], int] = defaultdict(int)
        for one in self:
            by_owner[one.pool.owner, one.sender] += one.used_bytes

        def used_bytes(one: Share) -> tuple[int, int]:
            return by_owner[one.pool.owner, one.sender], one.used_bytes

        return max(self, key=used_bytes, default=None)
