"""The file `file_names.txt`, which has the name of each row's image.

As in the library, images in class folders are named by their path with the dataset's root, images
of a flat folder by their file name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidRequestError
from ..files import atomic_file
from ..labels import plain_name

FILE_NAMES = "file_names.txt"


def file_names_of(root: str | Path, names: Sequence[str]) -> list[str]:
    """Return the lines for images of these names below `root`, whose spelling is kept."""
    if not any("/" in name for name in names):
        return list(names)
    return [os.path.join(os.fspath(root), *name.split("/")) for name in names]  # noqa: PTH118


def are_lines_of(lines: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether lines name these images in this order, with their root or without it."""
    paths = map(plain_name, lines)
    return len(lines) == len(names) and all(
        f"/{path}".endswith(f"/{plain_name(name)}") for path, name in zip(paths, names, strict=True)
    )


def write_lines(path: Path, names: Sequence[str]) -> None:
    """Write a line per row of features, atomically. Raises what `encode_lines` does."""
    content = encode_lines(path, names)
    with atomic_file(path) as file:
        file.write(content)


def encode_lines(path: Path, names: Sequence[str]) -> bytes:
    """Return a line per name, for a file.

    Raises InvalidRequestError for a name with a line break or that is not UTF-8.
    """
    if broken := [name for name in names if "\n" in name or "\r" in name]:
        what = f"{broken[0]!r} must not have a line break, since {path.name} has a line per row"
        raise InvalidRequestError(f"{what}: rename it.")
    lines = "".join(f"{name}\n" for name in names)
    try:
        return lines.encode()
    except UnicodeEncodeError as error:  # on Linux, a file name may be any bytes
        wrong = names[lines.count("\n", 0, error.start)]
        raise InvalidRequestError(f"{wrong!r} must be UTF-8: rename it.") from error


def read_names(folder: Path) -> list[str] | None:
    """Return the lines of `file_names.txt` in a folder; None if it can't be read."""
    try:
        text = (folder / FILE_NAMES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text.removesuffix("\n").split("\n")
