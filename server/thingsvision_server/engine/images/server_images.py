"""Finds images that are on the server: cached from earlier requests, or below the image root."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...access.image_roots import ImageRoots, Place
from ...access.person import Person
from ...errors import InvalidRequestError, UnknownImageError
from ...images import EncodedImage, KeptImage, NoImage, ServerImage, check_file_size, image_error
from ...inputs import RequestItem, content_bytes
from ...shortages import raise_shortage
from .store import ImageStore

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of image files below the image root, in lower case."""

_TOOL_FOLDERS = frozenset(
    {
        "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
        "@tmp", "__macosx", "__pycache__", "lost+found", "network trash folder",
        "system volume information", "temporary items",
    }
)  # fmt: skip
"""Folders that storage servers and operating systems put beside images, in lower case."""

SentItem = RequestItem | KeptImage | ServerImage | NoImage
"""What a request sends: content, a reference to an image on the server, or an empty place."""


def sent_bytes(item: SentItem) -> int:
    """Return the length of the content that an item brings."""
    return len(content_bytes(item)) if isinstance(item, RequestItem) else 0


@dataclass(frozen=True)
class ServerImages:
    """The cache of sent images, and the image roots: folders of images, if any."""

    store: ImageStore
    roots: ImageRoots = field(default_factory=ImageRoots)
    max_bytes: int = sys.maxsize
    """Maximum size of a file below a root, bytes."""

    def fetch(self, item: RequestItem | KeptImage | ServerImage) -> RequestItem:
        """Return the image that an item refers to, with its file; other items as they are.

        Raises UnknownImageError if the image is not cached, ImageError if it is not below a root.
        """
        if isinstance(item, KeptImage):
            return self._read_cached(item)
        if isinstance(item, ServerImage):
            return EncodedImage(item.index, item.name, self._read_file(item))
        return item

    def keep(self, item: RequestItem) -> None:
        """Cache an image's file, if its user asked for that."""
        if isinstance(item, EncodedImage) and item.keep_for is not None:
            self.store.keep(item.encoded, item.keep_for)

    def names(self, folder: str, reader: Person | None = None) -> Iterator[str]:
        """Yield the images below a folder that `reader` may read.

        They are sorted by root, then by folder, then by file name (code points).

        Hidden files and folders, folders of tools, and links that lead out of the root are left
        out.
        """
        places = self.roots.places(folder, reader)
        starts = [(place, _resolve(place)) for place in places]
        found = [(place, start) for place, start in starts if start and _is_folder(start)]
        if not found:
            sentence = f"this server's image root has no folder {folder!r}"
            raise InvalidRequestError(sentence, field="folder", subject=folder)
        for place, start in found:
            images = [path for path in _files_below(start) if self._is_shown(path, place.root)]
            relative = (path.relative_to(place.root).as_posix() for path in images)
            for name in sorted(relative, key=lambda name: name.rpartition("/")[::2]):
                yield place.prefix + name

    @staticmethod
    def _is_shown(path: Path, root: Path) -> bool:
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            return False
        # A pipe or a device by this name would block who reads it.
        if not _is_file(path):
            return False
        return not path.is_symlink() or path.resolve().is_relative_to(root)

    def _read_cached(self, item: KeptImage) -> EncodedImage:
        content = self.store.read(item.sha256, item.reader)
        if content is None:
            raise UnknownImageError(
                f"image {item.index} ({item.name!r}), SHA-256 {item.sha256.hex()}, is no longer "
                "cached on this server; send the file",
                field=f"image[{item.index}]",
                subject=item.name,
            )
        return EncodedImage(item.index, item.name, content)

    def _read_file(self, item: ServerImage) -> bytes:
        """Return a file's content; raise ImageError before a file is read that is too large."""
        path = self._find_file(item)
        try:
            check_file_size(item, path.stat().st_size, self.max_bytes)
            return path.read_bytes()
        except OSError as error:
            fault = f"can't be read on the server: {error.strerror or error}"
            raise image_error(item, fault) from error

    def _find_file(self, item: ServerImage) -> Path:
        place = self.roots.find(item.path, item.reader)
        path = None if place is None else _resolve(place)
        if path is None or path.suffix.lower() not in SUFFIXES or not _is_file(path):
            fault = f"must be an image file below this server's image root, got {item.path!r}"
            raise image_error(item, fault)
        return path


def _resolve(place: Place) -> Path | None:
    """Return a path below a root, with links followed; None if it leads out of the root."""
    try:
        path = (place.root / place.rest).resolve()
    # A NUL in the name, a name that is too long for the system, a circle of links.
    except (OSError, RuntimeError, ValueError) as error:
        raise_shortage(error)
        return None
    return path if path.is_relative_to(place.root) else None


# pathlib's own raise for names that the system refuses.
def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _files_below(start: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(start, onerror=raise_shortage):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name.casefold() not in _TOOL_FOLDERS
        ]
        yield from (Path(where, name) for name in names)
