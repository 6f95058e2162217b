"""Caches image files for later requests, under their SHA-256, for the people who sent them.

When room is needed, whoever uses the most space loses the least recently used images: the many
images of one person never push out the few of another. Several servers may share the folder: each
knows from the others' news what they have added, used and removed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from ...access.person import Person
from ...shared_folder.claims import Claims
from ...shortages import shortage_behind
from .folder import FoundFile, ImageFolder
from .news import CHANGED, USED, Item, News
from .pools import Pool, pool_of
from .shares import Share, Shares

_EARLIER = ""
"""Sender of the images that were in the folder at the start: their senders are not recorded."""

_HEARD_SECONDS = 0.1
"""While there is much room left, news may be so old when an image is cached."""

_NEARLY_FULL = 0.9

_USED_SECONDS = 600.0
"""The others hear again after this time that an image is used."""

_log = structlog.get_logger(__name__)


class ImageStore:
    """Image files under their SHA-256, within a quota; 0 caches nothing. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        quota_bytes: int,
        claims: Claims | None = None,
        *,
        person_bytes: int | None = None,
    ) -> None:
        self.quota_bytes = quota_bytes
        self._person_bytes = person_bytes
        self._claims = claims
        self._folder = ImageFolder(folder, claims)
        self._lock = threading.RLock()
        self._news = News(folder / ".news", claims.server if claims else uuid.uuid4().hex)
        self._shares = Shares(counts_once=self._folder.has_links)
        self._heard_at = 0.0
        self._told_used: set[bytes] = set()
        self._told_since = 0.0
        self._knows_all = True
        self._news.skip()
        if claims is not None:
            self._news.remove_dead(claims.heartbeats)
            # A killed server may have written an image, and told nobody.
            claims.heartbeats.after_death(lambda _server: self._look_at_all())
            claims.heartbeats.at_each_beat(self.refresh)
        self._look_at_all()
        self._make_all_room()

    @property
    def used_bytes(self) -> int:
        """How much the images use of the disk."""
        return self._shares.used_bytes

    def refresh(self) -> None:
        """Hear what other servers tell, so that no request has to hear it all at once."""
        with self._lock:
            self._hear()

    def set_quota(self, quota_bytes: int, person_bytes: int | None = None) -> None:
        """Use other quotas of all, and of one person, from now on; evict what doesn't fit."""
        with self._lock:
            self.quota_bytes, self._person_bytes = quota_bytes, person_bytes
            self._hear()
            self._make_all_room()

    def find_missing(self, digests: Sequence[bytes], person: Person) -> list[int]:
        """Return the positions of digests that a person can't use; mark the others as just used.

        What others sent is missing unless they share it: nobody learns from a digest what they
        have. A file that somebody removed from the folder is not cached any more.
        """
        with self._lock:
            self._hear()
            missing, used = [], []
            for place, digest in enumerate(digests):
                share = self._find(digest, person)
                if share is None:
                    missing.append(place)
                    continue
                share.sizes.move_to_end(digest)
                used.append(digest)
            self._tell_used(used, person)
            return missing

    def keep(self, content: bytes, person: Person) -> None:
        """Cache a file, evicting others for it; a file larger than a quota is not cached.

        If it exceeds what the person may have, the person's own least recently used are evicted.
        """
        digest, pool = hashlib.sha256(content).digest(), pool_of(person)
        with self._lock:
            is_late = time.monotonic() - self._heard_at > _HEARD_SECONDS
            if is_late or self.used_bytes + len(content) > _NEARLY_FULL * self.quota_bytes:
                self._hear()
            holders = self._shares.holders(digest)
            if len(content) > self._most_bytes(pool.owner) or any(
                one.pool.is_of(person) or not one.pool.owner for one in holders
            ):
                return
            sender = "" if pool.owner else person.name
            self._make_own_room(pool.owner, len(content))
            self._make_room(len(content))
            try:
                self._folder.write(digest, content, pool, [one.pool for one in holders])
            except OSError as error:  # the request has its image, cached or not
                _log.warning("an image can't be cached", reason=str(error))
                return
            self._shares.add(digest, len(content), pool, sender)
            self._tell([Item(CHANGED, digest, pool, sender)])

    def read(self, digest: bytes, person: Person | None = None) -> bytes | None:
        """Return a file; None if it is not cached, has changed, or can't be opened now.

        It is not cached for a person who may not see it; `person` None may see all.
        """
        while (share := self._find_to_read(digest, person)) is not None:
            try:
                content = self._folder.path(digest, share.pool).read_bytes()
            except FileNotFoundError:
                with self._lock:
                    self._shares.remove(digest, share)
                continue
            except OSError as error:
                if shortage_behind(error) is not None:  # it is still there: only send it this time
                    return None
            else:
                if hashlib.sha256(content).digest() == digest:
                    return content
            with self._lock:
                self._evict(digest, share)
        return None

    def _find_to_read(self, digest: bytes, person: Person | None) -> Share | None:
        """Return a share that has an image for a person, so that no other bytes become a path."""
        with self._lock:
            if not self._shares.holders(digest):
                self._hear()
            holders = self._shares.holders(digest)
            return next((one for one in holders if _may_see(person, one)), None)

    def pools_of(self, digest: bytes) -> list[Pool]:
        """Return the pools that have an image."""
        with self._lock:
            self._hear()
            return [one.pool for one in self._shares.holders(digest)]

    def listed(self, person: Person) -> Iterator[tuple[bytes, int, list[Pool]]]:
        """Yield the images that a person may see: digest, size and their pools; oldest use first.

        Who is no admin sees of an image only the own pools, and the pools of who shares it.
        """
        with self._lock:
            self._hear()
            shares = [one for one in self._shares if one.pool.may_see(person)]
            sizes = {digest: size for one in shares for digest, size in one.sizes.items()}
        for digest, size in sizes.items():
            with self._lock:
                pools = [one.pool for one in self._shares.holders(digest)]
            if seen := [one for one in pools if one.may_see(person)]:
                yield digest, size, seen

    def delete(self, digests: Iterable[bytes], pools: Iterable[Pool]) -> tuple[int, int]:
        """Delete images of these pools; return their number, and the bytes freed on the disk."""
        wanted, count = set(pools), 0
        with self._lock:
            self._hear()
            before = self.used_bytes
        for digest in digests:
            with self._lock:
                held = [one for one in self._shares.holders(digest) if one.pool in wanted]
                for share in held:
                    self._evict(digest, share)
                count += bool(held)
        with self._lock:
            return count, max(before - self.used_bytes, 0)

    def digests(self, pools: Iterable[Pool]) -> list[bytes]:
        """Return the images of some pools."""
        wanted = set(pools)
        with self._lock:
            self._hear()
            shares = [one for one in self._shares if one.pool in wanted]
            return list(dict.fromkeys(digest for one in shares for digest in one.sizes))

    def pools(self) -> list[Pool]:
        """Return the pools that have images."""
        with self._lock:
            self._hear()
            return list({one.pool for one in self._shares})

    def move(self, digests: Iterable[bytes], source: Pool, target: Pool) -> int:
        """Give images another owner, or show them to others; return how many."""
        if source == target:
            return 0
        count = 0
        for digest in digests:
            with self._lock:
                share = self._shares.find(digest, source)
                count += share is not None and self._move(digest, share, target)
        return count

    def _move(self, digest: bytes, share: Share, target: Pool) -> bool:
        size = share.sizes[digest]
        self._shares.remove(digest, share)
        if not self._folder.move(digest, share.pool, target):
            return False
        self._shares.add(digest, size, target)
        self._tell(Item(CHANGED, digest, pool) for pool in (share.pool, target))
        return True

    def _find(self, digest: bytes, person: Person) -> Share | None:
        """Return a share with a file that a person may see; forget files that are gone."""
        for share in self._shares.holders(digest):
            if share.pool.may_see(person):
                if os.path.exists(self._folder.path_in(share.folder, digest)):  # noqa: PTH110
                    return share
                self._shares.remove(digest, share)
        return None

    def _evict(self, digest: bytes, share: Share) -> None:
        self._shares.remove(digest, share)
        self._folder.delete(digest, share.pool)
        self._tell([Item(CHANGED, digest, share.pool)])

    def _make_room(self, size_bytes: int) -> None:
        while self.used_bytes + size_bytes > self.quota_bytes:
            largest = self._shares.largest()
            if largest is None:
                return
            self._evict(next(iter(largest.sizes)), largest)

    def _make_own_room(self, owner: str, size_bytes: int) -> None:
        """Evict an owner's images until so many bytes fit in what the owner may have."""
        most = self._most_bytes(owner)
        while most < self.quota_bytes and self._shares.owned_bytes(owner) + size_bytes > most:
            largest = self._shares.largest_of(owner)
            if largest is None:
                return
            self._evict(next(iter(largest.sizes)), largest)

    def _make_all_room(self) -> None:
        for owner in self._shares.owners():
            self._make_own_room(owner, 0)
        self._make_room(0)

    def _most_bytes(self, owner: str) -> int:
        """Return what an owner may have; the operator, who has no name here, all."""
        most = self._person_bytes
        return self.quota_bytes if most is None or not owner else min(most, self.quota_bytes)

    def _tell(self, items: Iterable[Item]) -> None:
        try:
            self._news.tell(items)
        except OSError as error:
            _log.warning("other servers can't be told of an image", reason=str(error))

    def _tell_used(self, digests: Sequence[bytes], person: Person) -> None:
        """Tell the others, once in a while, that these images are used."""
        if self._claims is None or not self._claims.heartbeats.others():
            return
        now = time.monotonic()
        if now - self._told_since >= _USED_SECONDS:
            self._told_used, self._told_since = set(), now
        due = [one for one in digests if one not in self._told_used]
        self._told_used.update(due)
        if due:
            self._tell(Item(USED, one, pool_of(person)) for one in due)

    def _hear(self) -> None:
        """Look again at what other servers say they have changed."""
        self._heard_at = time.monotonic()
        try:
            items = self._news.hear()
            if items is None or not self._knows_all:
                self._look_at_all()
            else:
                for item in items:
                    self._look_at(item)
            self._knows_all = True
        except OSError as error:  # what it knows may be old: clients send an image once more
            self._knows_all = False
            _log.warning("other servers can't be heard", reason=str(error))

    def _look_at(self, item: Item) -> None:
        if item.kind == USED:
            for holder in self._shares.holders(item.digest):
                holder.sizes.move_to_end(item.digest)
            return
        try:
            size = self._folder.path(item.digest, item.pool).stat().st_size
        except OSError:
            share = self._shares.find(item.digest, item.pool)
            if share is not None:
                self._shares.remove(item.digest, share)
            return
        self._shares.add(item.digest, size, item.pool, item.sender)

    def _look_at_all(self) -> None:
        """Look at all files; what was known before keeps its order."""
        with self._lock:
            self._compare(self._folder.files())

    def _compare(self, files: Iterable[FoundFile]) -> None:
        """Know these files, and no others."""
        found = sorted(files, key=lambda one: one.modified)
        there = {(one.digest, one.pool) for one in found}
        for share in list(self._shares):
            for digest in [one for one in share.sizes if (one, share.pool) not in there]:
                self._shares.remove(digest, share)
        for one in found:
            self._shares.add(one.digest, one.size_bytes, one.pool, _EARLIER)


def _may_see(person: Person | None, share: Share) -> bool:
    return person is None or share.pool.may_see(person)
