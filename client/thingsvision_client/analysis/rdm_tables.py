"""Tables of text with an RDM, and names in the first row, the first column or both."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import InvalidRequestError
from ..labels import Labelled, Labels, labels_in

TABLE_ENDINGS = (".csv", ".tsv")

_MISSING = frozenset({"", "na", "nan", "null", "none", "n/a"})

Rows = list[list[str]]


def read_table(path: Path) -> Labelled:
    """Return the RDM of a text file, with its names. Raises InvalidRequestError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read {path}: {error}") from error
    rows = _split(text, path)
    if (described := _read_described(rows, path)) is not None:
        return described
    has_header, has_index = _find_names(rows, path)
    titles = rows[0][has_index:] if has_header else []
    body = rows[has_header:]
    names = [row[0] for row in body] if has_index else []
    values = np.array(
        [
            [_number(cell, line, path) for cell in row[has_index:]]
            for line, row in enumerate(body, 1 + has_header)
        ]
    )
    axes = (
        labels_in("its first column", names) if names else (),
        labels_in("its first line", titles) if titles else (),
    )
    return Labelled(values, axes)


def _read_described(rows: Rows, path: Path) -> Labelled | None:
    """Return a table with several columns of text (names, categories); None for any other.

    The table that is left must have as many lines as columns, or a line more for its titles.
    """
    width = len(rows[0])
    body = rows[1:]
    texts = [place for place in range(width) if not _are_numbers(row[place] for row in body)]
    is_counted = rows[0][0] == "" and [row[0] for row in body] == [*map(str, range(len(body)))]
    if is_counted and texts:  # an index of pandas that only counts
        texts.insert(0, 0)
    rest = [place for place in range(width) if place not in texts]
    if len(texts) < 2 or len(rest) not in (len(rows), len(body)):
        return None
    has_header = len(rest) == len(body)
    lines = body if has_header else rows
    titles = rows[0] if has_header else [f"column {place + 1}" for place in range(width)]
    labels: list[Labels] = []
    for place in texts:
        found = [row[place] for row in lines]
        is_main = len(set(found)) == len(found)
        labels += labels_in(f"its column {titles[place]!r}", found, is_main=is_main)
    values = [
        [_number(row[place], number, path) for place in rest]
        for number, row in enumerate(lines, 1 + has_header)
    ]
    columns = labels_in("its first line", [titles[place] for place in rest]) if has_header else ()
    return Labelled(np.array(values), (tuple(labels), columns))


def _are_numbers(cells: Iterable[str]) -> bool:
    return all(cell.lower() in _MISSING or _is_number(cell) for cell in cells)


def _split(text: str, path: Path) -> Rows:
    """Return the cells of each line, split by the delimiter that makes the lines equally long."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for delimiter in ("\t", ";", ",", None):
        rows = (
            [line.split() for line in lines]
            if delimiter is None
            else [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
        )
        if len(rows) < 3 or len(rows[-1]) < 3:
            continue
        if len(rows[0]) == len(rows[1]) - 1:  # as R writes it, with nothing above the names
            rows[0].insert(0, "")
        if len({len(row) for row in rows}) == 1:
            return rows
    raise InvalidRequestError(
        f"{path} is not a table of an RDM: it must have a line per image and as many cells in each "
        "line, separated by commas, semicolons or tabs, with or without names in the first line "
        "and in front of each line."
    )


def _find_names(rows: Rows, path: Path) -> tuple[bool, bool]:
    """Tell whether the first line has names, and whether the first column has."""
    height, width = len(rows), len(rows[0])
    if height == width:
        are_both = not _is_number(rows[0][0]) and not _has_empty_diagonal(rows)
        return are_both, are_both
    if abs(height - width) == 1:
        return height > width, width > height
    raise InvalidRequestError(
        f"{path} must have an RDM, images x images, with or without names, got {height} lines of "
        f"{width} cells."
    )


def _has_empty_diagonal(rows: Rows) -> bool:
    """Tell whether a table is an RDM without names, but with an empty diagonal."""
    first = [cell for cell in rows[0][1:] if cell.lower() not in _MISSING]
    is_empty = all(rows[place][place].lower() in _MISSING for place in range(len(rows)))
    return is_empty and all(map(_is_number, first)) and not all(map(str.isdecimal, first))


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _number(cell: str, line: int, path: Path) -> float:
    if cell.lower() in _MISSING:
        return float("nan")
    try:
        return float(cell.replace(",", "."))
    except ValueError as error:
        raise InvalidRequestError(
            f"Line {line} of {path} must have numbers behind its name, got {cell!r}."
        ) from error
