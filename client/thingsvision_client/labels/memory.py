"""The names and the origin of the rows of arrays, remembered as long as the arrays live.

An array is known by its place in memory and by its bytes: a view of whole rows, or an equal copy,
has the rows that were remembered. Whatever else is made of an array (rows in another order, other
values, even in place) is not known.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from zlib_ng.zlib_ng import crc32

from ..arrays import Array, as_array
from ..errors import InvalidRequestError
from .objects import read_labelled, row_names

SWITCH_VARIABLE = "THINGSVISION_REMEMBER_ORIGINS"
"""`0` switches this off: files are then saved without provenance, and rows have no names."""

_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class KnownRows:
    """Rows of an array that are known: from `start` to before `stop` of those remembered.

    `names` has an entry for each of these rows; None if the rows have no names. `origin` is as it
    was remembered, for all rows.
    """

    names: tuple[str, ...] | None
    origin: Mapping[str, Any] | None
    start: int
    stop: int


@dataclass(frozen=True)
class _Memory:
    """Remembered rows: their place in memory, and the checksums of blocks of them."""

    owner: weakref.ref[Any]
    owner_place: tuple[int, int]
    start: int
    count: int
    row_bytes: int
    dtype: Any
    checksums: tuple[int, ...]
    names: tuple[str, ...] | None
    origin: Mapping[str, Any] | None

    @property
    def block_rows(self) -> int:
        return _block_rows(self.row_bytes)

    def rows_of(self, array: Array) -> tuple[int, int] | None:
        """Return which of these rows an array shares, if it consists of whole rows in order."""
        offset = _address(array) - self.start
        fits = 0 <= offset <= self.count * self.row_bytes - array.nbytes
        if not fits or array.dtype != self.dtype or offset % self.row_bytes:
            return None
        if array.nbytes != len(array) * self.row_bytes:
            return None
        return offset // self.row_bytes, offset // self.row_bytes + len(array)

    def whole(self) -> Array | None:
        """Return all rows as bytes, count x row_bytes; None if the owner's memory has moved."""
        owner = self.owner()
        if owner is None or _place(owner) != self.owner_place:
            return None
        return np.asarray(_Bytes(owner, self.start, (self.count, self.row_bytes)))

    def is_unchanged(self, start: int, stop: int) -> bool:
        """Tell whether the blocks of some rows have the bytes that they had."""
        rows = self.whole()
        if rows is None:
            return False
        first, last = start // self.block_rows, -(-stop // self.block_rows)
        wanted = rows[first * self.block_rows : last * self.block_rows]
        return _checksums(wanted) == self.checksums[first:last]

    def known(self, start: int, stop: int) -> KnownRows:
        """Return what is known of some rows."""
        names = None if self.names is None else self.names[start:stop]
        return KnownRows(names, self.origin, start, stop)


class _Bytes:
    """The bytes of some memory, which lives as long as its owner; for numpy."""

    def __init__(self, owner: Any, address: int, shape: tuple[int, int]) -> None:
        self._owner = owner
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (address, True),  # read-only
        }


_MEMORIES: dict[int, list[_Memory]] = {}
"""By the id of the array that owns the memory, as long as it lives; views keep it alive."""


def remember_rows(
    array: Array, names: Sequence[str] | None, origin: Mapping[str, Any] | None = None
) -> None:
    """Remember the names, and the origin, of the rows of an array as long as its memory lives."""
    if os.environ.get(SWITCH_VARIABLE) == "0":
        return
    if not array.ndim or not array.nbytes or not array.flags.c_contiguous:
        return
    owner = _owner(array)
    texts = None if names is None else tuple(map(str, names))
    key = id(owner)
    if (memory := _same_place(owner, array)) is not None:
        # The checksums stay: they are of the values as they came.
        _MEMORIES[key].append(replace(memory, names=texts, origin=origin))
        return
    rows = _bytes_of(array)
    memory = _Memory(
        owner=weakref.ref(owner, lambda _: _MEMORIES.pop(key, None)),
        owner_place=_place(owner),
        start=_address(array),
        count=len(array),
        row_bytes=rows.shape[1],
        dtype=array.dtype,
        checksums=_checksums(rows),
        names=texts,
        origin=origin,
    )
    _MEMORIES.setdefault(key, []).append(memory)


def known_rows(value: Any) -> KnownRows | None:
    """Return what is known of the rows of an array or tensor; None if it is not known."""
    try:
        array = as_array(value)
    except InvalidRequestError:  # whoever uses it says what is wrong with it
        return None
    if not array.ndim or not array.nbytes or array.dtype.hasobject:
        return None
    memories = [memory for some in list(_MEMORIES.values()) for memory in reversed(some)]
    if array.flags.c_contiguous:
        for memory in memories:
            rows = memory.rows_of(array)
            if rows is not None and memory.is_unchanged(*rows):
                return memory.known(*rows)
    return _known_copy(array, memories)


def names_in(value: Any) -> tuple[str, ...] | None:
    """Return the names of the rows of an object or an array; None if they are not known."""
    item = read_labelled(value)
    if item is not None:
        return row_names(item) or names_in(as_array(item.values))
    known = known_rows(value)
    return None if known is None else known.names


def keep_rows(source: Any, result: Array) -> Array:
    """Return an array whose row i was made of row i of another, and remember the names."""
    names = names_in(source)
    if names is not None and len(names) == len(result):
        remember_rows(result, names)
    return result


def _known_copy(array: Array, memories: Sequence[_Memory]) -> KnownRows | None:
    """Return the names of an array with the bytes of whole remembered rows, such as a pickle's.

    Equal rows could have changed places, so that all of them must differ.
    """
    alike = [
        memory
        for memory in memories
        if (len(array), array.dtype) == (memory.count, memory.dtype)
        and array.nbytes == memory.count * memory.row_bytes
    ]
    if not alike:
        return None
    rows = _bytes_of(np.ascontiguousarray(array))
    fits = [memory for memory in alike if _has_bytes(memory, rows)]
    if not fits or len({hash(row.tobytes()) for row in rows}) < len(rows):
        return None
    names = {memory.names for memory in fits}
    return KnownRows(names.pop(), None, 0, len(rows)) if len(names) == 1 else None


def _has_bytes(memory: _Memory, rows: Array) -> bool:
    whole, step = memory.whole(), memory.block_rows
    if whole is None:
        return False
    parts = (slice(start, start + step) for start in range(0, memory.count, step))
    are_equal = all(np.array_equal(whole[part], rows[part]) for part in parts)
    return are_equal and memory.is_unchanged(0, memory.count)


def _same_place(owner: Any, array: Array) -> _Memory | None:
    for memory in reversed(_MEMORIES.get(id(owner), [])):
        is_same = memory.owner() is owner and memory.rows_of(array) == (0, memory.count)
        if is_same and memory.whole() is not None:
            return memory
    return None


def _checksums(rows: Array) -> tuple[int, ...]:
    step = _block_rows(rows.shape[1])
    return tuple(crc32(rows[start : start + step].data) for start in range(0, len(rows), step))


def _block_rows(row_bytes: int) -> int:
    return max(1, _BLOCK_BYTES // row_bytes)


def _bytes_of(array: Array) -> Array:
    """Return the rows of an array in C order as bytes, count x row_bytes, in the same memory."""
    return array.reshape(len(array), -1).view(np.uint8)


def _owner(array: Any) -> Any:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _place(array: Array) -> tuple[int, int]:
    return _address(array), array.nbytes
