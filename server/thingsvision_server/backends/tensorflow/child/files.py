"""Opens Keras weights files under names with the suffix from which Keras infers the format."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_DECORATIONS = re.compile(r"\x1b\[\d*m|\{\{[^}]*\}\}")
"""Bold type, and the nodes of a graph."""
_VALUES = re.compile(r", value=.*?(?=>)", re.DOTALL)


class RefusedError(Exception):
    """A file or a seed that can't be used; `kind` names the reason."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def refuse_failures(what: str) -> Iterator[None]:
    """Raise RefusedError for what a network's own code raises, except a lack of memory."""
    import tensorflow as tf

    try:
        yield
    except (RefusedError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    # A layer may raise anything.
    except Exception as error:
        raise RefusedError("network", f"{what}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Return the line of an error that says what is wrong, without Keras' frame around it."""
    text = _DECORATIONS.sub("", str(getattr(error, "message", error)))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered")]
    return (told or [type(error).__name__])[0]


def strip_values(message: str) -> str:
    """Return Keras' message about a file that doesn't match, without the values of its arrays."""
    return " ".join(_VALUES.sub("", message).split())


@contextmanager
def with_suffix(path: Path) -> Iterator[str]:
    """Yield a link to the file, with the suffix of its format."""
    suffix = _suffix(path)
    with tempfile.TemporaryDirectory(prefix="thingsvision-") as folder:
        link = Path(folder) / f"weights{suffix}"
        link.symlink_to(path.resolve())
        yield str(link)


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return _hdf5_suffix(path)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" in archive.namelist():
                return ".keras"
    raise RefusedError("format", "it is neither an HDF5 weights file nor a .keras archive")


def _hdf5_suffix(path: Path) -> str:
    """Return `.h5` for the layout of Keras 2, `.weights.h5` for the layout of Keras 3."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            _check_links(file)
            of_keras_2 = {"layer_names", "model_weights"} & {*file.attrs, *file}
            return ".h5" if of_keras_2 else ".weights.h5"
    except OSError as error:
        raise RefusedError("format", f"it is a broken HDF5 file: {error}") from error


def _check_links(file: Any) -> None:
    """Raise RefusedError if reading the file would read other files of this machine."""
    import h5py

    seen, groups = {file.id}, [file]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                entry = f"{group.name}/{name}"
                raise RefusedError("format", f"its entry {entry} links to data elsewhere")
            part = group[name]
            if isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                raise RefusedError("format", f"its array {part.name} is stored in another file")
            if isinstance(part, h5py.Group) and part.id not in seen:
                seen.add(part.id)
                groups.append(part)
