"""Names of images: one file has one name, its path below the root with `/`, however it is spelled.

Absolute paths, `.` and `..`, and the backslashes of Windows are spellings of the same name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..calls.wording import quote
from ..errors import InvalidRequestError
from ..labels import column_of, plain_name


def check_names(argument: str, given: Any) -> list[str]:
    """Return an argument as a list of texts. Raises InvalidRequestError for anything else."""
    if isinstance(given, (str, bytes, os.PathLike)) or not isinstance(given, Iterable):
        raise InvalidRequestError(
            f"`{argument}` must be a list of names, got {given!r}: for a single name, give [NAME]."
        )
    names = list(column_of(given))
    if wrong := [name for name in names if not isinstance(name, (str, os.PathLike))]:
        raise InvalidRequestError(
            f"`{argument}` must be names (texts or paths), got {wrong[0]!r} "
            f"({type(wrong[0]).__name__}): give the names of the images to use."
        )
    return [str(os.fspath(name)) for name in names]


def names_below(root: Path, argument: str, given: Any) -> list[str]:
    """Return the paths below `root` that names mean, in the same order; they may not exist.

    A name is relative to `root`, or absolute, or relative to the working directory if only that
    exists. Raises InvalidRequestError for a path outside.
    """
    names = check_names(argument, given)
    found = {name: _name_below(root, name) for name in dict.fromkeys(names)}
    if outside := [name for name, below in found.items() if below is None]:
        raise InvalidRequestError(
            f"`{argument}` must be below {root}, got {quote(outside)}: choose a root that has all "
            "of them.",
            subject=outside[0],
        )
    return [found[name] or "" for name in names]


def _name_below(root: Path, name: str) -> str | None:
    """Return a path below the root; None if it leads outside."""
    if "\\" in name and not (root / name).exists():  # on Linux, a file's name may have a backslash
        name = name.replace("\\", "/")
    if _is_plain(name) and (root / name).exists():
        return name
    at_root = _below(root, root / name)
    if at_root is None or not (root / at_root).exists():
        here = _below(root, Path(name).absolute())  # as glob("images/*/*.jpg") spells it
        if here is not None and (root / here).exists():
            return here
        elsewhere = _without_root(root, name)
        if elsewhere is not None:
            return elsewhere
    return at_root


def _without_root(root: Path, name: str) -> str | None:
    """Return the path below the root of a name that begins with the last folders of the root.

    So `images/cats/1.png`, as a script in /data wrote it, is found below /data/images.
    """
    parts, folders = Path(plain_name(name)).parts, root.absolute().parts
    for count in range(len(parts) - 1, 0, -1):
        below = "/".join(parts[count:])
        if parts[:count] == folders[-count:] and (root / below).exists():
            return below
    return None


def _is_plain(name: str) -> bool:
    return plain_name(name) == name and not name.startswith(("/", ".."))


def _below(root: Path, path: Path) -> str | None:
    """Return the path below the root, by its text, or else with the links of its folder followed.

    A path below `root` may itself be a link that leads elsewhere: it keeps its own name.
    """
    plain = Path(os.path.normpath(path.absolute()))
    by_text = _relative(plain, Path(os.path.normpath(root.absolute())))
    if by_text is not None and (".." not in path.parts or _is_same(path, plain)):
        return by_text
    real_root, real_folder = root.resolve(), path.parent.resolve()
    by_folder = None if path.name == ".." else _relative(real_folder / path.name, real_root)
    return by_folder or _relative(path.resolve(), real_root)


def _relative(path: Path, root: Path) -> str | None:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths are not two different files: after a link, `..` is another folder."""
    try:
        return path.samefile(other)
    except OSError:
        return not path.exists()
