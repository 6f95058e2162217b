"""Features split into pieces, and joined again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from ..arrays import Array, RowStore
from ..calls.arguments import as_whole
from ..errors import InvalidRequestError
from ..files import atomic_path, file_stem
from ..formats import FEATURES, FileFormat
from ..formats.pieces import Piece, atomic_pieces, piece_name
from ..formats.whole import layout_of, write_in_parts
from ..labels import remember_rows
from .file_names import FILE_NAMES, read_names
from .row_naming import RowNames, saved_names
from .writing import write_features

Arrays = Mapping[str, Array]


def stops_of(count: int, n_splits: int) -> list[int]:
    """Return the row where each piece ends, as by `numpy.array_split`.

    Raises InvalidRequestError if a piece would be empty.
    """
    n_splits = as_whole("n_splits", n_splits)
    if not 1 <= n_splits <= count:
        raise InvalidRequestError(
            f"`n_splits` must be from 1 to {count}, the number of images, got {n_splits}."
        )
    size, more = divmod(count, n_splits)
    return [number * size + min(number, more) for number in range(1, n_splits + 1)]


def write_in_one(
    folder: Path,
    arrays: Arrays,
    file_format: FileFormat,
    stops: Sequence[int],
    *,
    names: RowNames,
) -> None:
    """Write one file that contains all pieces."""
    from ..origins import write_origin
    from ..origins.replacing import warn_of_replaced

    path = folder / f"{FEATURES}.{file_format.suffix}"
    layout = layout_of(arrays, names.stored)
    with warn_of_replaced(path):
        with (
            atomic_path(path) as unfinished,
            file_format.open_pieces(unfinished, layout, stops) as writer,
        ):
            write_in_parts(arrays, layout, writer)
        write_origin(path, arrays, names.known)


def write_pieces(
    folder: Path,
    arrays: Arrays,
    file_format: FileFormat,
    stops: Sequence[int],
    *,
    names: RowNames,
    by_image: bool,
) -> None:
    """Write a file per piece, or one per piece and module if the format holds one array."""
    from ..origins.replacing import warn_of_replaced

    is_together = file_format.holds_several or len(arrays) == 1
    groups: list[tuple[str | None, Arrays]] = (
        [(None, arrays)] if is_together else [(name, {name: one}) for name, one in arrays.items()]
    )
    for _, of_group in groups:
        file_format.check(layout_of(of_group).columns)
    contents = [
        (piece, of_group)
        for module, of_group in groups
        for piece in _pieces(module, file_format.suffix, stops)
    ]
    pieces = [piece for piece, _ in contents]
    with (
        warn_of_replaced(folder / pieces[0].file, is_piece=True),
        atomic_pieces(folder, file_format.suffix, pieces) as new,
    ):
        for piece, of_group in contents:
            rows = slice(piece.start, piece.stop)
            write_features(
                new / piece.file,
                {name: array[rows] for name, array in of_group.items()},
                file_format,
                names.part(rows),
                by_image=by_image,
            )


def _pieces(module: str | None, suffix: str, stops: Sequence[int]) -> Iterator[Piece]:
    parent = "" if module is None else f"{file_stem(module)}/"
    for number, (start, stop) in enumerate(pairwise([0, *stops]), 1):
        name = f"{parent}{piece_name(number, len(stops))}.{suffix}"
        yield Piece(name, module, start, stop)


def join(folder: Path, file_format: FileFormat, pieces: Sequence[Piece]) -> dict[str, Array]:
    """Return the arrays of all pieces, whole. Raises InvalidRequestError if they don't match."""
    stores: dict[str, RowStore] = {}
    names: dict[str | None, list[str] | None] = {}
    counts = {piece.module: piece.stop for piece in pieces}
    for piece in pieces:
        path = folder / piece.file
        _extend(names, piece.module, saved_names(path, file_format))
        for name, array in file_format.read(path).items():
            key = name if piece.module is None else piece.module
            if key not in stores:
                count = counts[piece.module] or None
                stores[key] = RowStore(array.shape[1:], array.dtype, count)
            _append(stores[key], array, path)
    whole = {name: store.finish() for name, store in stores.items()}
    _check_counts(folder, whole, max(counts.values()))
    for name, array in whole.items():
        remember_names(array, names[name if name in names else None])
    return whole


def remember_names(array: Array, names: Sequence[str] | None) -> None:
    """Remember the names of the rows of an array that was read from files, if they are known."""
    if names is not None and len(names) == len(array):
        remember_rows(array, names)


def _extend(
    names: dict[str | None, list[str] | None], module: str | None, more: Sequence[str] | None
) -> None:
    """Add the names of a piece; if some are not known, none are."""
    before = names.setdefault(module, [])
    names[module] = None if before is None or more is None else [*before, *more]


def _append(store: RowStore, array: Array, path: Path) -> None:
    if (store.shape, store.dtype) != (array.shape[1:], array.dtype):
        raise InvalidRequestError(
            f"All pieces must have rows of shape {store.shape}, {store.dtype}; {path} has "
            f"{array.shape[1:]}, {array.dtype}."
        )
    store.append(array)


def _check_counts(folder: Path, whole: Arrays, expected: int) -> None:
    counts = {name: len(array) for name, array in whole.items()}
    if expected:
        names, source = expected, "the split had"
    else:  # pieces of other programs
        listed = read_names(folder)
        names = max(counts.values()) if listed is None else len(listed)
        source = f"{FILE_NAMES} has"
    if set(counts.values()) != {names}:
        raise InvalidRequestError(
            f"The pieces in {folder} have {counts} rows, but {source} {names}: "
            "a piece is missing, or belongs to other features."
        )
