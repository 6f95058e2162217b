"""The file `file_names.txt`, which has the name of each row's image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidRequestError
from ..files import atomic_file

FILE_NAMES = "file_names.txt"


def write_lines(path: Path, names: Sequence[str]) -> None:
    """Write a line per row of features, atomically.

    Raises InvalidRequestError for a name with a line break or that is not UTF-8.
    """
    if broken := [name for name in names if "\n" in name or "\r" in name]:
        what = f"{broken[0]!r} must not have a line break, since {path.name} has a line per row"
        raise InvalidRequestError(f"{what}: rename it.")
    lines = "".join(f"{name}\n" for name in names)
    try:
        content = lines.encode()
    except UnicodeEncodeError as error:  # on Linux, a file name may be any bytes
        wrong = names[lines.count("\n", 0, error.start)]
        raise InvalidRequestError(f"{wrong!r} must be UTF-8: rename it.") from error
    with atomic_file(path) as file:
        file.write(content)


def read_names(folder: Path) -> list[str] | None:
    """Return the lines of `file_names.txt` in a folder; None if it can't be read."""
    try:
        text = (folder / FILE_NAMES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text.removesuffix("\n").split("\n")
