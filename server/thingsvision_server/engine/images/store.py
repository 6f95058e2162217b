"""Caches image files for later requests, under their SHA-256.

When room is needed, the client that uses the most space loses its least recently used images: the
many images of one client never push out the few of another.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_EARLIER = ""
"""Sender of the images that were in the folder at the start: their senders are not recorded."""


class _Share:
    """What one sender has in the cache: sizes by digest, least recently used first."""

    def __init__(self) -> None:
        self.sizes: OrderedDict[bytes, int] = OrderedDict()
        self.used_bytes = 0

    def add(self, digest: bytes, size: int) -> None:
        self.sizes[digest] = size
        self.used_bytes += size

    def remove(self, digest: bytes) -> int:
        size = self.sizes.pop(digest)
        self.used_bytes -= size
        return size


class ImageStore:
    """Image files under their SHA-256, within a quota; 0 caches nothing. Thread-safe."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.quota_bytes = quota_bytes
        self.used_bytes = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._shares: defaultdict[str, _Share] = defaultdict(_Share)
        self._senders: dict[bytes, str] = {}
        found = [(path.stat(), path) for path in folder.glob("??/[!.]*")]
        for facts, path in sorted(found, key=lambda one: one[0].st_mtime):
            digest = bytes.fromhex(path.parent.name + path.name)
            self._add(digest, facts.st_size, _EARLIER)
        self._make_room()

    def find_missing(self, digests: Sequence[bytes]) -> list[int]:
        """Return the positions of digests that are not cached; mark the others as just used.

        A file that somebody removed from the folder is not cached any more.
        """
        with self._lock:
            for digest in digests:
                if digest in self._senders and not self._path(digest).is_file():
                    self._evict(digest)
                if digest in self._senders:
                    self._shares[self._senders[digest]].sizes.move_to_end(digest)
            return [place for place, digest in enumerate(digests) if digest not in self._senders]

    def keep(self, content: bytes, sender: str) -> None:
        """Cache a file, evicting others for it; a file larger than the quota is not cached."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            if digest in self._senders or len(content) > self.quota_bytes:
                return
            try:
                self._write(self._path(digest), content)
            except OSError as error:  # the request has its image, cached or not
                _log.warning("an image can't be cached", reason=str(error))
                return
            self._add(digest, len(content), sender)
            self._make_room()

    def read(self, digest: bytes) -> bytes | None:
        """Return a file; None if it is not cached, or if its content has changed."""
        with self._lock:
            if digest not in self._senders:  # so that no other bytes become a path
                return None
        try:
            content = self._path(digest).read_bytes()
        except OSError:
            content = None
        if content is not None and hashlib.sha256(content).digest() == digest:
            return content
        with self._lock:
            self._evict(digest)
        return None

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name[2:]

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _add(self, digest: bytes, size: int, sender: str) -> None:
        self._senders[digest] = sender
        self._shares[sender].add(digest, size)
        self.used_bytes += size

    def _evict(self, digest: bytes) -> None:
        sender = self._senders.pop(digest, None)
        if sender is None:
            return
        share = self._shares[sender]
        self.used_bytes -= share.remove(digest)
        if not share.sizes:
            del self._shares[sender]
        self._path(digest).unlink(missing_ok=True)

    def _make_room(self) -> None:
        while self.used_bytes > self.quota_bytes:
            largest = max(self._shares.values(), key=lambda share: share.used_bytes)
            self._evict(next(iter(largest.sizes)))
