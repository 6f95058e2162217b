"""Rows of a reference RDM, matched with images by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath

from ..errors import InvalidRequestError, listed
from ..images.names import plain_name

_MOST_NAMED = 5


def rows_of(images: Sequence[str], names: Sequence[str], reference: str) -> list[int]:
    """Return the row of each image, by name. Raises InvalidRequestError, with the reference.

    Names may be spelled in several ways, such as with backslashes.
    """
    images, names = [*map(plain_name, images)], [*map(plain_name, names)]
    for key in _KEYS:
        if (rows := _rows_by(key, images, names)) is not None:
            return rows
    bare = {PurePath(name).stem for name in names}
    missing = [image for image in images if PurePath(image).stem not in bare]
    if not missing:
        raise InvalidRequestError(
            f"The row names of reference {reference!r} match the image names in several ways, or "
            f"name other folders: its rows are {listed(names, _MOST_NAMED)}, the images are "
            f"{listed(images, _MOST_NAMED)}; name the rows as the images are named."
        )
    raise InvalidRequestError(
        f"Reference {reference!r} has no rows for {len(missing)} of the images: "
        f"{listed(missing, _MOST_NAMED)}; its rows are {listed(names, _MOST_NAMED)}."
    )


def _rows_by(
    key: Callable[[str], str], images: Sequence[str], names: Sequence[str]
) -> list[int] | None:
    """Return the row of each image by a part of its name; None if that part is ambiguous."""
    rows = {key(name): row for row, name in enumerate(names)}
    wanted = [key(image) for image in images]
    # Different images, such as cats/1.jpg and dogs/1.jpg, need different rows.
    is_unique = len(rows) == len(names) and len(set(wanted)) == len(set(images))
    if not is_unique or not all(image in rows for image in wanted):
        return None
    found = [rows[image] for image in wanted]
    alike = (_folders_fit(image, names[row]) for image, row in zip(images, found, strict=True))
    return found if all(alike) else None


def _folders_fit(image: str, name: str) -> bool:
    """Tell whether one of two names only lacks outer folders of the other, or all folders."""
    shorter, longer = sorted((PurePath(image).parts[:-1], PurePath(name).parts[:-1]), key=len)
    return longer[len(longer) - len(shorter) :] == shorter


_KEYS: tuple[Callable[[str], str], ...] = (
    str,
    lambda name: PurePath(name).name,
    lambda name: PurePath(name).stem,
)
"""The part of a name that must match, the strictest first."""
