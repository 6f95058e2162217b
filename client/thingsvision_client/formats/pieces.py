"""The files of one split, which appear together and replace an older split.

Beside the pieces is `features.{suffix}.pieces.json`, which lists them. While a newer split replaces
an older one, it says `complete: false`, so that a mixture is detected. Splits without such a list,
as other programs write them, are numbered from 1 without a gap.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import InvalidRequestError
from ..files import atomic_file, metadata_path
from .base import FEATURES

_FORMAT = 1
_PIECE = re.compile(rf"{FEATURES}_(\d+)\.(\w+)")
_AGAIN = "split the features again"


@dataclass(frozen=True)
class Piece:
    """A file of a split, by its path below the folder: its module and rows `start` to `stop`."""

    file: str
    module: str | None
    start: int
    stop: int


def list_path(folder: Path, suffix: str) -> Path:
    """Return the path of the list of a split."""
    return folder / f"{FEATURES}.{suffix}.pieces.json"


def piece_name(number: int, count: int) -> str:
    """Return the name of a piece, counted from 1: features_01, with more digits if needed."""
    return f"{FEATURES}_{number:0{max(2, len(str(count)))}d}"


@contextmanager
def atomic_pieces(folder: Path, suffix: str, pieces: Sequence[Piece]) -> Iterator[Path]:
    """Yield a folder for new pieces, which replace an older split if the block succeeds.

    Their metadata, `{file}.json`, is replaced too. If the block fails, the older split stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging = folder / f".{FEATURES}.{suffix}.pieces.{uuid4().hex}"
    try:
        for piece in pieces:
            (staging / piece.file).parent.mkdir(parents=True, exist_ok=True)
        yield staging
        _swap(folder, staging, suffix, pieces)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(folder: Path, staging: Path, suffix: str, pieces: Sequence[Piece]) -> None:
    stale = {folder / piece.file for piece in _read_pieces(folder, suffix) or ()}
    homes = {(folder / piece.file).parent for piece in pieces}
    stale |= {path for home in homes for path in _files_by_number(home, suffix)}
    stale -= {folder / piece.file for piece in pieces}
    sizes = {piece.file: (staging / piece.file).stat().st_size for piece in pieces}
    _write_list(folder, suffix, [*pieces, *_as_pieces(folder, stale)], sizes, complete=False)
    for path in stale:
        _remove(path, folder)
    for piece in pieces:
        target = folder / piece.file
        target.parent.mkdir(exist_ok=True)
        _move(metadata_path(staging / piece.file), metadata_path(target))
        _move(staging / piece.file, target)
    _write_list(folder, suffix, pieces, sizes, complete=True)


def find_pieces(folder: Path, suffix: str) -> list[Piece]:
    """Return the pieces of the split in a folder, in order; empty if there is none.

    Their rows are 0 to 0 without a list. Raises InvalidRequestError for a split that is incomplete
    or was changed.
    """
    found = _files_by_number(folder, suffix)
    document = _read_list(list_path(folder, suffix))
    if document is None:
        return _without_list(folder, found)
    if not document["complete"]:
        raise InvalidRequestError(
            f"A split into {folder} was interrupted while it replaced an older one: {_AGAIN}."
        )
    pieces = _from_json(document)
    _check(folder, document)
    if unknown := {path.name for path in found} - {piece.file for piece in pieces}:
        raise InvalidRequestError(
            f"{min(unknown)} in {folder} does not belong to the split that "
            f"{list_path(folder, suffix).name} lists: remove it, or {_AGAIN}."
        )
    return pieces


def _check(folder: Path, document: Mapping[str, Any]) -> None:
    for entry in document["pieces"]:
        path = folder / entry["file"]
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise InvalidRequestError(f"{path}, a piece of the split, is missing: {_AGAIN}.")
        if size != entry["bytes"]:
            raise InvalidRequestError(
                f"{path} must have the {entry['bytes']} bytes written, got {size}: {_AGAIN}."
            )


def _without_list(folder: Path, found: Mapping[Path, int]) -> list[Piece]:
    by_number = sorted((number, path.name) for path, number in found.items())
    for expected, (number, name) in enumerate(by_number, 1):
        if number < expected:
            raise InvalidRequestError(
                f"{name} in {folder} has the same number as another file: remove one of them."
            )
        if number > expected:
            raise InvalidRequestError(
                f"Piece {expected} of the split in {folder} is missing; next is {name}: "
                f"add it, or {_AGAIN}."
            )
    return [Piece(name, None, 0, 0) for _, name in by_number]


def _files_by_number(folder: Path, suffix: str) -> dict[Path, int]:
    """Return the files of a folder that are named like pieces, with their numbers."""
    files = folder.iterdir() if folder.is_dir() else ()
    numbered = ((path, _PIECE.fullmatch(path.name)) for path in files)
    return {path: int(match[1]) for path, match in numbered if match and match[2] == suffix}


def _read_pieces(folder: Path, suffix: str) -> list[Piece] | None:
    try:
        document = _read_list(list_path(folder, suffix))
        return None if document is None else _from_json(document)
    except InvalidRequestError:  # a good list replaces it
        return None


def _read_list(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = document["format"] == _FORMAT and isinstance(document["pieces"], list)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InvalidRequestError(f"Can't read {path}, a list of pieces: {error}") from error
    if not known:
        raise InvalidRequestError(f"{path} must list pieces in format {_FORMAT}: {_AGAIN}.")
    return document


def _write_list(
    folder: Path,
    suffix: str,
    pieces: Sequence[Piece],
    sizes: Mapping[str, int],
    *,
    complete: bool,
) -> None:
    entries = [
        {
            "file": piece.file,
            "module": piece.module,
            "rows": [piece.start, piece.stop],
            "bytes": sizes.get(piece.file),
        }
        for piece in pieces
    ]
    document = {"format": _FORMAT, "complete": complete, "pieces": entries}
    with atomic_file(list_path(folder, suffix)) as file:
        file.write(f"{json.dumps(document, indent=2, ensure_ascii=False)}\n".encode())


def _from_json(document: Mapping[str, Any]) -> list[Piece]:
    try:
        pieces = [
            Piece(str(entry["file"]), entry["module"], *map(int, entry["rows"]))
            for entry in document["pieces"]
        ]
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"A list of pieces has a broken entry: {error}") from error
    for piece in pieces:
        *above, name = piece.file.split("/")
        # Listed files may be deleted: they must be pieces, inside the folder.
        if len(above) > 1 or ".." in above or not _PIECE.fullmatch(name):
            raise InvalidRequestError(
                f"A list of pieces names {piece.file!r}, which is not a piece."
            )
    return pieces


def _as_pieces(folder: Path, paths: set[Path]) -> list[Piece]:
    """Return files to delete as pieces, so that the next split deletes them if this one fails."""
    return [Piece(path.relative_to(folder).as_posix(), None, 0, 0) for path in sorted(paths)]


def _remove(path: Path, folder: Path) -> None:
    path.unlink(missing_ok=True)
    metadata_path(path).unlink(missing_ok=True)
    if path.parent != folder:
        with suppress(OSError):  # has other files
            path.parent.rmdir()


def _move(source: Path, target: Path) -> None:
    """Move a file over another; if it does not exist, delete the other."""
    try:
        source.replace(target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
