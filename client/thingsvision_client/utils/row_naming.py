"""The names that rows get in a file of features: given, known, or only numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arrays import Array, as_array
from ..calls.caller import warn_caller
from ..calls.wording import quote
from ..errors import InvalidRequestError, UnnamedRowsWarning
from ..files import metadata_path
from ..formats import FileFormat
from ..labels import are_counted, has_only_positions, list_names, names_in, numbered_names, texts_of
from .file_names import FILE_NAMES, are_lines_of, read_names


@dataclass(frozen=True)
class RowNames:
    """Names of the rows of a file: `known` go to its metadata, `stored` are in the file itself.

    None: they are not known; the format can't store names.
    """

    known: Sequence[str] | None
    stored: Sequence[str] | None

    def part(self, rows: slice) -> RowNames:
        """Return the names of some rows."""
        return RowNames(self.known and self.known[rows], self.stored and self.stored[rows])


def name_rows(
    features: Any,
    arrays: Mapping[str, Array],
    path: Path,
    file_format: FileFormat,
    given: Sequence[str] | None = None,
) -> RowNames:
    """Return the names of the rows of equally long arrays, for the file `path`.

    They are `given`, or the names that `features` carry (an index, say), or the names of the
    images, if the client knows for all arrays that these are their rows; otherwise the file gets
    numbers, which a warning says. Raises InvalidRequestError for `given` that don't fit. Warns if
    the `file_names.txt` in the folder lists other images, since another dataset has written it.
    """
    count = len(next(iter(arrays.values())))
    carried = _find_names(features)
    known = carried if given is None else check_names(given, count, carried)
    listed_names = read_names(path.parent)
    if listed_names is not None and len(listed_names) != count:
        listed_names = None
    if known is None and file_format.names_key:
        _warn_of_numbers(path, may_be_listed=listed_names is not None)
        return RowNames(None, numbered_names(count))
    is_other = listed_names and known and not are_lines_of(listed_names, known)
    if given is None and is_other:
        warn_caller(
            f"{path.with_name(FILE_NAMES)} lists other images than these features have, or another "
            "order, since a sampler chose the rows, or another dataset was created for that folder "
            "later. The features keep their own names; give each dataset its own out_path.",
        )
    return RowNames(known, known if file_format.names_key else None)


def _find_names(features: Any) -> list[str] | None:
    objects = features.values() if isinstance(features, Mapping) else [features]
    # Numbers of rows, as sorting or filtering a table leaves them, are not names of images.
    found = {names_in(as_array(one) if has_only_positions(one) else one) for one in objects}
    names = found.pop() if len(found) == 1 else None
    return None if names is None else list(names)


def _warn_of_numbers(path: Path, *, may_be_listed: bool) -> None:
    lines = f", such as the lines of {path.with_name(FILE_NAMES)} if the rows are in their order"
    warn_caller(
        f"It is not known which images the rows of {path.name} are, since they were reordered, "
        "changed or computed elsewhere: the file calls them row_000000, row_000001 and so on. Pass "
        f"their names as names=[...]{lines if may_be_listed else ''}.",
        UnnamedRowsWarning,
    )


def check_names(
    names: Sequence[str], count: int, carried: Sequence[str] | None = None
) -> list[str]:
    """Return names of rows as texts.

    Raises InvalidRequestError if there is not a name per row, or if they are those that the rows
    carry, in another order.
    """
    found = list_names("names", names)
    missing = [row for row, name in enumerate(found) if name is None or name != name]
    if missing:
        raise InvalidRequestError(
            f"`names` must have a name per row, got {found[missing[0]]!r} for row {missing[0]}."
        )
    if len(found) != count:
        raise InvalidRequestError(
            f"`names` must have a name per row ({count}), got {len(found)} names."
        )
    texts = list(texts_of(found))
    if carried is not None and texts != list(carried) and sorted(texts) == sorted(carried):
        raise InvalidRequestError(
            "`names` must agree with the names that the features carry, or that are known of them, "
            f"got another order: {quote(texts, 3)} for the rows {quote(carried, 3)}. Leave names "
            "out."
        )
    return texts


def saved_names(path: Path, file_format: FileFormat) -> list[str] | None:
    """Return the names of the rows of a file of features; None if it does not have them.

    They are in the file, or in the metadata beside it if that is of this very file.
    """
    names = file_format.read_names(path)
    if names is None:
        names = _described_names(path)
    return None if names is None or are_counted(names) else names


def _described_names(path: Path) -> list[str] | None:
    from ..origins import file_sha256

    try:
        document: Any = json.loads(metadata_path(path).read_text(encoding="utf-8"))
        names = document.get("names") or [image["name"] for image in document["images"]]
        if document["file_sha256"] != file_sha256(path):
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    # Rows of ready inputs have numbers instead of names.
    is_numbered = document.get("input") == "tensor" and all(map(str.isdecimal, names))
    return None if is_numbered else list(names)
