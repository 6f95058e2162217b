"""The files of cached images: where each lies, and which are there."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...shared_folder.claims import Claims
from ...shared_folder.unfinished import remove_unfinished, write_file
from .pools import Pool, find_pools

_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class FoundFile:
    """A file of a cached image."""

    digest: bytes
    pool: Pool
    size_bytes: int
    modified: float


class ImageFolder:
    """A folder of cached images, which several servers may share."""

    def __init__(self, root: Path, claims: Claims | None = None) -> None:
        self._root = root
        self._claims = claims
        with suppress(OSError):  # it can only be read
            root.mkdir(parents=True, exist_ok=True)
        self.has_links = _has_links(root)
        """Whether a file may have two names on this disk."""
        if claims is not None:
            claims.heartbeats.after_death(lambda _server: self.remove_unfinished())
        self.remove_unfinished()

    def path(self, digest: bytes, pool: Pool) -> Path:
        """Return where the file of an image lies."""
        return Path(self.path_in(pool.folder, digest))

    def path_in(self, folder: str, digest: bytes) -> str:
        """Return the same by the name of a pool's folder, quickly."""
        name = digest.hex()
        return f"{self._root}/{folder}{'/' if folder else ''}{name[:2]}/{name[2:]}"

    def write(self, digest: bytes, content: bytes, pool: Pool, holders: Iterable[Pool]) -> None:
        """Write a file, or give one that other pools have a name here. Raises OSError."""
        path = self.path(digest, pool)
        path.parent.mkdir(parents=True, exist_ok=True)
        for holder in holders if self.has_links else ():
            with suppress(OSError):  # it is gone, or has too many names
                os.link(self.path(digest, holder), path)
                return
        write_file(path, content, self._claims.server if self._claims else "")

    def move(self, digest: bytes, source: Pool, target: Pool) -> bool:
        """Move a file to another pool; return False if it is not there."""
        before, after = self.path(digest, source), self.path(digest, target)
        after.parent.mkdir(parents=True, exist_ok=True)
        try:
            before.replace(after)
        except FileNotFoundError:
            return False
        before.unlink(missing_ok=True)  # two names of one file are left as they are
        return True

    def delete(self, digest: bytes, pool: Pool) -> None:
        """Delete the file of an image, if it is there."""
        with suppress(OSError):
            self.path(digest, pool).unlink(missing_ok=True)

    def files(self) -> Iterator[FoundFile]:
        """Yield all files that are there; other servers may add and delete some meanwhile."""
        for pool in find_pools(self._root):
            for folder in (self._root / pool.folder).glob("??"):
                with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                    yield from _found(entries, folder.name, pool)

    def remove_unfinished(self) -> None:
        """Remove what servers that are dead left unfinished."""
        hearts = self._claims.heartbeats if self._claims else None
        for pool in find_pools(self._root):
            for folder in (self._root / pool.folder).glob("??"):
                remove_unfinished(folder, hearts)


def _found(entries: Iterable[os.DirEntry[str]], prefix: str, pool: Pool) -> Iterator[FoundFile]:
    for entry in entries:
        with suppress(FileNotFoundError, ValueError):
            digest = bytes.fromhex(prefix + entry.name)
            if len(digest) == _DIGEST_BYTES:
                facts = entry.stat()
                yield FoundFile(digest, pool, facts.st_size, facts.st_mtime)


def _has_links(folder: Path) -> bool:
    name = uuid.uuid4().hex
    one, other = (folder / f".unfinished-{name}-{number}" for number in range(2))
    try:
        one.touch()
        os.link(one, other)
    except OSError:
        return False
    finally:
        for path in (one, other):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return True
