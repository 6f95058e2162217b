"""Files of images that are kept for later requests, under their SHA-256; knows no request.

Where room is needed, whoever has most kept loses what was not asked for the longest: nobody's many
images push out the few of another.
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
"""Whose images are that lay here at the start: who sent them is not written down."""


class _Share:
    """What one sender has kept: sizes by digest, what was not asked for the longest first."""

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
    """Files of images under their SHA-256, within a quota; 0 keeps none. Threads may share it."""

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
            self._note(digest, facts.st_size, _EARLIER)
        self._make_room()

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Return the places of those that are not kept; the others are kept longest from now on.

        A file that somebody removed from the folder is forgotten.
        """
        with self._lock:
            for digest in digests:
                if digest in self._senders and not self._path(digest).is_file():
                    self._forget(digest)
                if digest in self._senders:
                    self._shares[self._senders[digest]].sizes.move_to_end(digest)
            return [place for place, digest in enumerate(digests) if digest not in self._senders]

    def keep(self, content: bytes, sender: str) -> None:
        """Keep a file, and let others go for it; one that is larger than all room is not kept."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            if digest in self._senders or len(content) > self.quota_bytes:
                return
            try:
                self._write(self._path(digest), content)
            except OSError as error:  # keeping is a favour: the request has its image
                _log.warning("an image can't be kept", reason=str(error))
                return
            self._note(digest, len(content), sender)
            self._make_room()

    def read(self, digest: bytes) -> bytes | None:
        """Return a file; None where it is not kept, or is not what it was."""
        with self._lock:
            if digest not in self._senders:  # whatever was sent, it is no name of a file then
                return None
        try:
            content = self._path(digest).read_bytes()
        except OSError:
            content = None
        if content is not None and hashlib.sha256(content).digest() == digest:
            return content
        with self._lock:
            self._forget(digest)
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

    def _note(self, digest: bytes, size: int, sender: str) -> None:
        self._senders[digest] = sender
        self._shares[sender].add(digest, size)
        self.used_bytes += size

    def _forget(self, digest: bytes) -> None:
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
            self._forget(next(iter(largest.sizes)))
