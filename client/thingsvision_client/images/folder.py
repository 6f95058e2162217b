"""Which images a folder contains, and in which order.

The order is by code points of paths with `/`, so it is the same on every operating system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ..calls.wording import quote
from ..errors import InvalidRequestError
from .names import check_names, names_below

SUFFIXES = frozenset({".bmp", ".eps", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of image files, in lower case; any case is accepted."""

_TOOL_FOLDERS = frozenset(
    {
        "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
        "@tmp", "__macosx", "__pycache__", "lost+found", "network trash folder",
        "system volume information", "temporary items",
    }
)  # fmt: skip
"""Folders that storage servers and operating systems put beside images, in lower case."""


def is_tool_folder(name: str) -> bool:
    """Tell whether a folder is hidden or made by a tool: its images are copies and thumbnails."""
    return name.startswith(".") or name.casefold() in _TOOL_FOLDERS


def image_names(
    root: Path,
    class_names: Sequence[str] | None = None,
    file_names: Sequence[str] | None = None,
) -> list[str]:
    """Return the images below `root`, as paths relative to it with `/`.

    Folders in `root` are classes: sorted, or `class_names` in their order. A class contains its
    images at any depth, sorted by folder, then by file. Without folders: the files, sorted.
    Hidden files and folders and folders of tools (`is_tool_folder`) are left out.
    `file_names` selects exactly these files in this order, however their paths below `root` are
    spelled (`names_below`); a name given twice yields two rows. Raises InvalidRequestError for
    names that are missing or ambiguous.
    """
    if not root.is_dir():
        raise InvalidRequestError(f"There is no folder {str(root)!r}.")
    class_names = None if class_names is None else class_paths(root, class_names)
    if file_names is not None and not len(file_names := check_names("file_names", file_names)):
        raise InvalidRequestError(
            "`file_names` must have at least one name, got none: leave it out for all images."
        )
    names = (
        _select_files(root, class_names, file_names)
        if file_names is not None
        else _find_images(root, class_names)
    )
    if not names:
        raise InvalidRequestError(f"There are no images ({quote(sorted(SUFFIXES))}) in {root}.")
    return names


def class_folders(root: Path) -> list[str]:
    """Return the names of classes, sorted: folders in `root` with images at any depth."""
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    return [name for name in folders if not is_tool_folder(name) and _has_image(root, name)]


def class_paths(root: Path, class_names: Sequence[str]) -> list[str]:
    """Return the paths of class folders below `root`, however they are spelled.

    Raises InvalidRequestError for folders outside, or a folder that is there twice.
    """
    classes = names_below(root, "class_names", class_names)
    if "." in classes:
        raise InvalidRequestError(f"`class_names` must be folders below {root}, got {root} itself.")
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise InvalidRequestError(f"`class_names` must be unique, got {quote(twice)} twice.")
    return classes


def class_of(name: str, classes: Container[str]) -> str | None:
    """Return the innermost class that an image's path is in, or that is the image; None if none."""
    while name and name not in classes:
        name = name.rpartition("/")[0]
    return name or None


def _select_files(root: Path, class_names: Sequence[str] | None, files: Sequence[str]) -> list[str]:
    names = names_below(root, "file_names", files)
    wrong: list[tuple[str, Callable[[str], bool]]] = [
        (f"not in {root} (give paths relative to it)", lambda name: not (root / name).is_file()),
        (f"not images ({quote(sorted(SUFFIXES))})", lambda name: not _has_image_suffix(name)),
    ]
    if class_names is not None:
        classes = frozenset(class_names)
        wrong.append(("in none of class_names", lambda name: class_of(name, classes) is None))
    for fault, is_wrong in wrong:
        if found := [name for name in names if is_wrong(name)]:
            raise InvalidRequestError(
                f"These file_names are {fault}: {quote(found)}.", subject=found[0]
            )
    return names


def _find_images(root: Path, class_names: Sequence[str] | None) -> list[str]:
    if class_names is not None:
        return _in_classes(root, class_names)
    classes = class_folders(root)
    loose = sorted(entry.name for entry in root.iterdir() if _is_image(entry))
    if classes and loose:
        raise InvalidRequestError(
            f"{root} has images both beside its folders ({quote(loose)}) and in them "
            f"({quote(classes)}): move them, or select some with class_names or file_names."
        )
    return loose or _in_classes(root, classes)


def _in_classes(root: Path, classes: Sequence[str]) -> list[str]:
    if missing := [name for name in classes if not (root / name).is_dir()]:
        raise InvalidRequestError(
            f"{root} has no folders {quote(missing)}; it has {quote(class_folders(root))}."
        )
    return [name for folder in classes for name in _images_below(root, folder)]


def _has_image(root: Path, folder: str) -> bool:
    return next(_images_anywhere(root, folder), None) is not None


def _images_below(root: Path, folder: str) -> list[str]:
    return sorted(_images_anywhere(root, folder), key=lambda name: name.rpartition("/")[::2])


def _images_anywhere(root: Path, folder: str) -> Iterator[str]:
    for path, folders, files in os.walk(root / folder, onerror=_refuse, followlinks=True):
        folders[:] = [
            name for name in folders if not is_tool_folder(name) and not _is_cycle(path, name)
        ]
        parent = Path(path).relative_to(root).as_posix()
        yield from (f"{parent}/{name}" for name in files if _is_image(Path(path, name)))


def _refuse(error: OSError) -> NoReturn:
    """Raise InvalidRequestError for a folder that can't be read: its images would be missing."""
    raise InvalidRequestError(f"Can't read the folder {error.filename}: {error.strerror}.")


def _is_cycle(path: str, folder: str) -> bool:
    """Whether a folder is a link to one of its parents: walking it would never end."""
    below = Path(path, folder)
    return below.is_symlink() and Path(path).resolve().is_relative_to(below.resolve())


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")  # such as macOS's "._photo.jpg", which is not a photo
    if hidden or not _has_image_suffix(path.name):
        return False
    # A link to nothing, such as git-annex's before the file is there, is an image that is missing.
    return path.is_file() or (path.is_symlink() and not path.exists())


def _has_image_suffix(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES
