"""Checks that an HDF5 file contains all of its own data, and no more than that.

HDF5 can link to other files: followed here, such a link would show a stranger the server's disk.
Groups can contain each other, and arrays can be announced without values.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ...errors import InvalidWeightsError
from ...shortages import raise_shortage

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
"""The first bytes of every HDF5 file."""

_BROKEN_FILE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises if it can't make sense of the bytes."""


_MOST_ENTRIES = 1_000_000
_ALWAYS_READ = 1024 * 1024
_MOST_PACKED = 2000
"""How many times smaller than its values an array may be: gzip makes zeros 1,000 times smaller."""


def check_hdf5(file: Path | IO[bytes], called: str) -> int:
    """Return the size of a file's longest axis of weights.

    Raises InvalidWeightsError if the file is broken, has no arrays, or links to other files or in
    circles.
    """
    longest = find_longest(file, called)
    check_arrays(longest, called)
    return longest


def check_arrays(longest: int, called: str) -> None:
    """Raise InvalidWeightsError if a file's longest axis is 0: it has no arrays."""
    if not longest:
        sentence = f"{called} is an HDF5 file without any arrays of weights"
        raise InvalidWeightsError(sentence, subject=called)


def find_longest(file: Path | IO[bytes], called: str) -> int:
    """Return the size of a file's longest axis of weights, 0 if it has no arrays.

    Raises InvalidWeightsError if the file is broken, or links to other files or in circles.
    """
    import h5py

    try:
        with h5py.File(file, "r", locking=False) as opened:
            arrays = list(_arrays(opened, called))
    except _BROKEN_FILE as error:
        sentence = f"{called} is not an HDF5 file (.weights.h5), or it is broken: {error}"
        raise InvalidWeightsError(sentence, subject=called) from error
    return max(arrays, default=0)


def attribute_names(path: Path) -> frozenset[str]:
    """Return the names of a file's own attributes; none if it is broken."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return frozenset(map(str, file.attrs))
    except _BROKEN_FILE as error:
        raise_shortage(error)
        return frozenset()


def read_text(path: Path, attribute: str) -> str:
    """Return an attribute of a file as text; raise OSError or TypeError if there is none."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        value = file.attrs.get(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise TypeError(f"its attribute {attribute} must be text, got {type(value).__name__}")
    return value


def _arrays(file: Any, called: str) -> Iterator[int]:
    """Yield the size of each array's longest axis; a group of several names is read once."""
    import h5py

    seen, groups, count = {file.id}, [file], 0
    while groups:
        group = groups.pop()
        for name in group:
            count += 1
            place = f"{group.name.rstrip('/')}/{name}"
            if count > _MOST_ENTRIES:
                raise _array_error(called, place, f"has more than {_MOST_ENTRIES:,} before it")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _link_error(called, place, "is a link")
            member = group[name]
            if isinstance(member, h5py.Group):
                if _contains(member, group):
                    raise _link_error(called, place, "is a link to a group that it is in")
                if member.id not in seen:
                    seen.add(member.id)
                    groups.append(member)
            elif isinstance(member, h5py.Dataset):
                yield _check_array(member, called, place)


def _contains(group: Any, inner: Any) -> bool:
    """Return whether a group is on the way from the root to another, or it itself."""
    while inner.id != group.id:
        if inner.name == "/":
            return False
        inner = inner.parent
    return True


def _check_array(array: Any, called: str, place: str) -> int:
    if array.is_virtual or array.external:
        raise _link_error(called, place, "keeps its values in another file")
    stored = array.id.get_storage_size()
    if array.nbytes > max(_ALWAYS_READ, _MOST_PACKED * stored):
        raise _array_error(called, place, f"announces {array.nbytes:,} bytes and has hardly any")
    return max(array.shape or (1,), default=1)


def _array_error(called: str, place: str, what: str) -> InvalidWeightsError:
    return InvalidWeightsError(f"{called} is rejected: {place!r} in it {what}", subject=place)


def _link_error(called: str, place: str, what: str) -> InvalidWeightsError:
    return InvalidWeightsError(
        f"{called} is rejected: {place!r} in it {what}; save all weights in one file "
        "(model.save_weights('NAME.weights.h5'))",
        subject=place,
    )
