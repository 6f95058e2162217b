"""Finds images that are on the server: cached from earlier requests, or below the image root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidRequestError, UnknownImageError
from ...images import EncodedImage, KeptImage, NoImage, ServerImage, image_error
from ...inputs import RequestItem
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


@dataclass(frozen=True)
class ServerImages:
    """The cache of sent images, and the image root: a folder that all users may read, if any."""

    store: ImageStore
    root: Path | None = None

    def fetch(self, item: RequestItem | KeptImage | ServerImage) -> RequestItem:
        """Return the image that an item refers to, with its file; other items as they are.

        Raises UnknownImageError if the image is not cached, ImageError if it is not below the root.
        """
        if isinstance(item, KeptImage):
            return self._read_cached(item)
        if isinstance(item, ServerImage):
            return EncodedImage(item.index, item.name, self._find_file(item).read_bytes())
        return item

    def keep(self, item: RequestItem) -> None:
        """Cache an image's file, if its user asked for that."""
        if isinstance(item, EncodedImage) and item.keep_for is not None:
            self.store.keep(item.encoded, item.keep_for)

    def names(self, folder: str) -> Iterator[str]:
        """Yield the images below a folder, sorted by folder, then by file name (code points).

        Hidden files and folders, folders of tools, and links that lead out of the root are left
        out.
        """
        root, start = self._root(), self._resolve_path(folder)
        if start is None or not start.is_dir():
            sentence = f"this server's image root has no folder {folder!r}"
            raise InvalidRequestError(sentence, field="folder", subject=folder)
        images = [path for path in _files_below(start) if self._is_shown(path, root)]
        relative = (path.relative_to(root).as_posix() for path in images)
        yield from sorted(relative, key=lambda name: name.rpartition("/")[::2])

    @staticmethod
    def _is_shown(path: Path, root: Path) -> bool:
        is_image = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        return is_image and (not path.is_symlink() or path.resolve().is_relative_to(root))

    def _read_cached(self, item: KeptImage) -> EncodedImage:
        content = self.store.read(item.sha256)
        if content is None:
            raise UnknownImageError(
                f"image {item.index} ({item.name!r}), SHA-256 {item.sha256.hex()}, is no longer "
                "cached on this server; send the file",
                field=f"image[{item.index}]",
                subject=item.name,
            )
        return EncodedImage(item.index, item.name, content)

    def _find_file(self, item: ServerImage) -> Path:
        path = self._resolve_path(item.path)
        if path is None or path.suffix.lower() not in SUFFIXES or not path.is_file():
            fault = f"must be an image file below this server's image root, got {item.path!r}"
            raise image_error(item, fault)
        return path

    def _resolve_path(self, name: str) -> Path | None:
        """Return a path below the root, with links followed; None if it leads out of the root."""
        root = self._root()
        path = (root / name).resolve()
        return path if path.is_relative_to(root) else None

    def _root(self) -> Path:
        if self.root is None:
            raise InvalidRequestError(
                "this server has no image root; its operator can set one with --image-root",
                field="server_path",
            )
        return self.root.resolve()


def _files_below(start: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(start):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name.casefold() not in _TOOL_FOLDERS
        ]
        yield from (Path(where, name) for name in names)
