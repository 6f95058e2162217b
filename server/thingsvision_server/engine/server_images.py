"""Images that lie on the server: kept of earlier requests, or below a folder; decodes nothing.

What is kept has its SHA-256 as its name; what was not asked for the longest goes first.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from ..errors import InvalidRequestError, UnknownImageError
from ..images import EncodedImage, KeptImage, ServerImage, image_error
from ..inputs import RequestItem

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings of files below the image root that are images, in lower case."""

SentItem = RequestItem | KeptImage | ServerImage
"""What a request sends: content, or what names an image that lies here."""

_log = structlog.get_logger(__name__)


class ImageStore:
    """Files of images under their SHA-256, within a quota; 0 keeps none. Threads may share it."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.quota_bytes = quota_bytes
        self.used_bytes = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        found = [(path.stat(), path) for path in folder.glob("??/[!.]*")]
        for facts, path in sorted(found, key=lambda one: one[0].st_mtime):
            self._note(bytes.fromhex(path.parent.name + path.name), facts.st_size)
        self._make_room()

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Return the places of those that are not kept; the others are kept longest from now on."""
        with self._lock:
            for digest in digests:
                if digest in self._sizes:
                    self._sizes.move_to_end(digest)
            return [place for place, digest in enumerate(digests) if digest not in self._sizes]

    def keep(self, content: bytes) -> None:
        """Keep a file, and let others go for it; one that is larger than all room is not kept."""
        digest = hashlib.sha256(content).digest()
        with self._lock:
            if digest in self._sizes or len(content) > self.quota_bytes:
                return
            try:
                self._write(self._path(digest), content)
            except OSError as error:  # keeping is a favour: the request has its image
                _log.warning("an image can't be kept", reason=str(error))
                return
            self._note(digest, len(content))
            self._make_room()

    def read(self, digest: bytes) -> bytes | None:
        """Return a file; None where it is not kept, or is not what it was."""
        with self._lock:
            if digest not in self._sizes:  # whatever was sent, it is no name of a file then
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

    def _note(self, digest: bytes, size: int) -> None:
        self._sizes[digest] = size
        self.used_bytes += size

    def _forget(self, digest: bytes) -> None:
        self.used_bytes -= self._sizes.pop(digest, 0)
        self._path(digest).unlink(missing_ok=True)

    def _make_room(self) -> None:
        while self._sizes and self.used_bytes > self.quota_bytes:
            self._forget(next(iter(self._sizes)))


@dataclass(frozen=True)
class ServerImages:
    """Both: the store, and the folder that the operator shows to all users, if any."""

    store: ImageStore
    root: Path | None = None

    def fetch(self, item: SentItem) -> RequestItem:
        """Return the image that an item names, with its file; others as they are.

        Raises UnknownImageError where it is not here.
        """
        if isinstance(item, KeptImage):
            return self._kept(item)
        if isinstance(item, ServerImage):
            return EncodedImage(item.index, item.name, self._file(item).read_bytes())
        return item

    def keep(self, item: RequestItem) -> None:
        """Keep an image's file, if its user wants that."""
        if isinstance(item, EncodedImage) and item.keep:
            self.store.keep(item.encoded)

    def names(self, folder: str) -> Iterator[str]:
        """Yield the images below a folder: folders by code points, in each its files likewise.

        Hidden files and links that lead out of the root are none.
        """
        root, start = self._root(), self._inside(folder)
        if start is None or not start.is_dir():
            sentence = f"the image root has no folder {folder!r}"
            raise InvalidRequestError(sentence, field="folder", subject=folder)
        found = (Path(where, name) for where, _, names in os.walk(start) for name in names)
        images = [path for path in found if self._is_shown(path, root)]
        relative = (path.relative_to(root).as_posix() for path in images)
        yield from sorted(relative, key=lambda name: name.rpartition("/")[::2])

    @staticmethod
    def _is_shown(path: Path, root: Path) -> bool:
        is_image = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        return is_image and (not path.is_symlink() or path.resolve().is_relative_to(root))

    def _kept(self, item: KeptImage) -> EncodedImage:
        content = self.store.read(item.sha256)
        if content is None:
            raise UnknownImageError(
                f"image {item.index} ({item.name!r}), SHA-256 {item.sha256.hex()}, is not kept "
                "here any more; send the file",
                field=f"image[{item.index}]",
                subject=item.name,
            )
        return EncodedImage(item.index, item.name, content)

    def _file(self, item: ServerImage) -> Path:
        path = self._inside(item.path)
        if path is None or path.suffix.lower() not in SUFFIXES or not path.is_file():
            fault = f"is no image of this server's image root: {item.path!r}"
            raise image_error(item, fault)
        return path

    def _inside(self, name: str) -> Path | None:
        """Return a path below the root, links followed; None where it leads out of it."""
        root = self._root()
        path = (root / name).resolve()
        return path if path.is_relative_to(root) else None

    def _root(self) -> Path:
        if self.root is None:
            raise InvalidRequestError(
                "this server shows no folder of images; its operator can, with --image-root",
                field="server_path",
            )
        return self.root.resolve()
