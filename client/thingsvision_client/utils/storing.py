"""Features to files: a whole file appears, or none; knows no server."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from ..errors import InvalidRequestError

_FORBIDDEN_IN_FILES = frozenset('<>:"/\\|?*%')

Array = npt.NDArray[Any]
Features: TypeAlias = "Array | Mapping[str, Array]"


def _write_npy(file: IO[bytes], features: Features) -> None:
    array = next(iter(features.values())) if isinstance(features, Mapping) else features
    np.save(file, array, allow_pickle=False)


def _write_npz(file: IO[bytes], features: Features) -> None:
    arrays = features if isinstance(features, Mapping) else {"features": features}
    # numpy's own writer takes the names as keywords, where `file` is one already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.save(entry, array, allow_pickle=False)


FORMATS: dict[str, Callable[[IO[bytes], Features], None]] = {"npy": _write_npy, "npz": _write_npz}
"""How features are written, by `file_format`, which is the file's ending too."""


def save_features(features: Features, out_path: str | Path, file_format: str) -> None:
    """Write `features.{file_format}` into the folder `out_path`, which is made if need be.

    `npy` holds one array (or a dict of one), `npz` a dict of them by module name; an array
    alone is called `features` there. An existing file is
    replaced only when the new one is complete. Raises InvalidRequestError.
    """
    check_format(file_format, len(features) if isinstance(features, Mapping) else 1)
    with replacing(Path(out_path) / f"features.{file_format}") as file:
        FORMATS[file_format](file, features)


def check_format(file_format: str, array_count: int) -> None:
    """Raise InvalidRequestError for a format that is not in FORMATS or can't hold the arrays."""
    if file_format not in FORMATS:
        raise InvalidRequestError(
            f"There is no file format {file_format!r}; valid: {', '.join(FORMATS)}."
        )
    if file_format == "npy" and array_count != 1:
        raise InvalidRequestError(
            f"npy holds one array, not {array_count}: use the format npz, or save one by one."
        )


def file_stem(module: str) -> str:
    """Return a name for a module's file, of its own for every module, on every system.

    `%` and what file systems forbid (`/`, `:` ...) become `%XX` as in URLs; the model as a
    whole, which has no name, is `(model)`.
    """
    return "".join(map(_in_file, module)) or "(model)"


def _in_file(character: str) -> str:
    is_safe = character.isprintable() and character not in _FORBIDDEN_IN_FILES
    return character if is_safe else quote(character, safe="")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of `path` when the block ends well, and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
