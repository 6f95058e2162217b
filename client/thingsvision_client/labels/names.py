"""Rows of an RDM or of features, matched with images by their names."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np

from ..calls.wording import quote
from ..errors import InvalidRequestError

MOST_NAMED = 5
"""Names in a sentence."""


def plain_name(name: str) -> str:
    r"""Return a name with `/` for `\`, and without `.`, `..` and doubled slashes; reads no disk."""
    return posixpath.normpath(name.replace("\\", "/")) if name else name


def numbered_names(count: int) -> list[str]:
    """Return names for rows whose images are not known: `row_000000`, `row_000001` and so on."""
    return [f"row_{row:06d}" for row in range(count)]


def list_names(argument: str, given: Any) -> list[Any]:
    """Return an argument as a list of names in order.

    A column (N x 1) is taken for a list. Raises InvalidRequestError, also for sets and tables.
    """
    given = column_of(given)
    axes = len(getattr(given, "shape", (1,)))
    unordered = isinstance(given, (str, bytes, set, frozenset, Mapping))
    if unordered or axes != 1 or not isinstance(given, Iterable):
        got = f"shape {tuple(given.shape)}" if axes > 1 else repr(given)
        raise InvalidRequestError(f"`{argument}` must be a list with a name per row, got {got}.")
    names = list(given)
    if nested := [one for one in names if isinstance(one, (list, dict, set, np.ndarray))]:
        raise InvalidRequestError(
            f"`{argument}` must have a text per row, got {nested[0]!r} for a row."
        )
    return names


def column_of(given: Any) -> Any:
    """Return a column (N x 1) of an array or a table as its N values, and anything else as is."""
    if len(getattr(given, "shape", ())) != 2 or given.shape[1] != 1:
        return given
    return np.asarray(given)[:, 0]


def are_reordered(images: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether names of rows are those of the images in another order."""
    rows = find_rows(images, names)
    return rows is not None and rows != list(range(len(names)))


def are_counted(names: Sequence[str]) -> bool:
    """Tell whether names only count the rows, as pandas, rsatoolbox and `numbered_names` do."""
    return all(name in (str(row), f"row_{row:06d}") for row, name in enumerate(names))


def rows_of(images: Sequence[str], names: Sequence[str], what: str) -> list[int]:
    """Return the row of each image, by name.

    Raises InvalidRequestError, which calls the owner of the rows `what`, such as "reference 'IT'".
    """
    if (rows := find_rows(images, names)) is not None:
        return rows
    missing = _find_missing(images, names)
    if not missing:
        raise InvalidRequestError(
            f"The row names of {what} match the image names in several ways, or name other "
            f"folders: its rows are {quote(names, MOST_NAMED)}, the images are "
            f"{quote(images, MOST_NAMED)}; name the rows as the images are named."
        )
    raise InvalidRequestError(
        f"{what[:1].upper()}{what[1:]} has no rows for {len(missing)} of the images: "
        f"{quote(missing, MOST_NAMED)}; its rows are {quote(names, MOST_NAMED)}."
    )


def find_rows(images: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Return the row of each image by name; None if a name is missing or fits several images.

    Names may lack their outer folders, or all folders, and the ending. A number, as tables have
    it, is the name of a file that is called so, such as 7 of `007.png`.
    """
    if (rows := _rows_by(images, names, images, names)) is not None:
        return rows
    ours, theirs = list(map(_path, images)), list(map(_path, names))
    depth = max((len(path.parts) for path in (*ours, *theirs)), default=1)
    for of_image, of_name in _ENDINGS:
        for count in range(depth, 0, -1):
            wanted = [_last(of_image(path), count) for path in ours]
            found = [_last(of_name(path), count) for path in theirs]
            if (rows := _rows_by(images, names, wanted, found)) is not None:
                return rows
    if all(map(str.isdecimal, names)):
        return _rows_by(images, names, list(map(_number, images)), list(map(_number, names)))
    return None


def _rows_by(
    images: Sequence[str], names: Sequence[str], wanted: Sequence[Any], found: Sequence[Any]
) -> list[int] | None:
    """Return the row of each image by a part of its name; None if that part is ambiguous.

    `wanted` are the parts of the images' names, `found` those of the rows' names.
    """
    rows = {part: row for row, part in enumerate(found)}
    # Different images, such as cats/1.jpg and dogs/1.jpg, need different rows.
    is_unique = len(rows) == len(names) and len(set(wanted)) == len(set(images))
    if not is_unique or not all(part in rows for part in wanted):
        return None
    chosen = [rows[part] for part in wanted]
    alike = (_folders_fit(image, names[row]) for image, row in zip(images, chosen, strict=True))
    return chosen if all(alike) else None


def _find_missing(images: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the images that no name could be of."""
    by_file: dict[str, list[str]] = {}
    for name in names:
        for part in {file_of(name), stem_of(name)}:
            by_file.setdefault(part, []).append(name)
    return [
        image
        for image in images
        if not any(
            _folders_fit(image, name)
            for part in (file_of(image), stem_of(image))
            for name in by_file.get(part, [])
        )
    ]


def _path(name: str) -> PurePosixPath:
    """Return a name as a path: Windows writes backslashes, macOS letters apart from accents."""
    return PurePosixPath(plain_name(normalize("NFC", name)))


def _last(path: PurePosixPath, count: int) -> tuple[str, ...]:
    return path.parts[-count:]


def _same(path: PurePosixPath) -> PurePosixPath:
    return path


def _without_ending(path: PurePosixPath) -> PurePosixPath:
    return path.with_suffix("") if path.name else path


def file_of(name: str) -> str:
    """Return the last part of a name, without its folders."""
    return _path(name).name


def stem_of(name: str) -> str:
    """Return the last part of a name, without its ending."""
    return _path(name).stem


def _number(name: str) -> str:
    stem = stem_of(name)
    return str(int(stem)) if stem.isdecimal() else name


def _folders_fit(image: str, name: str) -> bool:
    """Tell whether one of two names only lacks outer folders of the other, or all folders."""
    shorter, longer = sorted((_path(image).parts[:-1], _path(name).parts[:-1]), key=len)
    return longer[len(longer) - len(shorter) :] == shorter


_Part = Callable[[PurePosixPath], PurePosixPath]

_ENDINGS: tuple[tuple[_Part, _Part], ...] = (
    (_same, _same),
    (_without_ending, _same),
    (_same, _without_ending),
    (_without_ending, _without_ending),
)
"""Whether the endings of an image's name and of a row's name count, the strictest first."""
