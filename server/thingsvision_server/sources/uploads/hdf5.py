"""Checks that an HDF5 file contains all of its own data.

HDF5 can link to other files: followed here, such a link would show a stranger the server's disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ...errors import InvalidWeightsError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
"""The first bytes of every HDF5 file."""

_BROKEN_FILE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises if it can't make sense of the bytes."""


def check_hdf5(file: Path | IO[bytes], called: str) -> None:
    """Raise InvalidWeightsError if a file is broken, has no arrays, or links to other files."""
    import h5py

    try:
        with h5py.File(file, "r", locking=False) as opened:
            arrays = list(_arrays(opened, called))
    except _BROKEN_FILE as error:
        sentence = f"{called} is not an HDF5 file (.weights.h5), or it is broken: {error}"
        raise InvalidWeightsError(sentence, subject=called) from error
    if not arrays:
        sentence = f"{called} is an HDF5 file without any arrays of weights"
        raise InvalidWeightsError(sentence, subject=called)


def attribute_names(path: Path) -> frozenset[str]:
    """Return the names of a file's own attributes; none if it is broken."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return frozenset(map(str, file.attrs))
    except _BROKEN_FILE:
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


def _arrays(group: Any, called: str) -> Iterator[str]:
    import h5py

    for name in group:
        place = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _link_error(called, place, "is a link")
        member = group[name]
        if isinstance(member, h5py.Group):
            yield from _arrays(member, called)
        elif isinstance(member, h5py.Dataset):
            if member.is_virtual or member.external:
                raise _link_error(called, place, "keeps its values in another file")
            yield place


def _link_error(called: str, place: str, what: str) -> InvalidWeightsError:
    return InvalidWeightsError(
        f"{called} is rejected: {place!r} in it {what}; save all weights in one file "
        "(model.save_weights('NAME.weights.h5'))",
        subject=place,
    )
