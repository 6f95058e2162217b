"""Whole files or none: written beside their place, moved there when complete; knows no format."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote
from uuid import uuid4

CHUNK_BYTES = 1024 * 1024

_FORBIDDEN_IN_FILES = frozenset('<>:"/\\|?*%')


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of `path` when the block ends well, and vanishes if not."""
    with atomic_path(path) as unfinished, unfinished.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path, free and of the same ending, for what takes the place of `path` at the end.

    The block makes a file there and closes it. When the block fails, the file vanishes and an
    older `path` stays. Folders are made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{path.suffix}")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def metadata_path(path: Path) -> Path:
    """Return where lies what is told of a file: beside it, with `.json` behind its name."""
    return path.with_name(f"{path.name}.json")


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left of a file, hex, in flat memory; it is at its end then."""
    if sys.version_info >= (3, 11):
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def file_stem(module: str) -> str:
    """Return a name for a module's file, of its own for every module, on every system.

    `%` and what file systems forbid (`/`, `:` ...) become `%XX` as in URLs; the model as a
    whole, which has no name, is `(model)`.
    """
    return "".join(map(_in_file, module)) or "(model)"


def _in_file(character: str) -> str:
    is_safe = character.isprintable() and character not in _FORBIDDEN_IN_FILES
    return character if is_safe else quote(character, safe="")


def _sync(path: Path) -> None:
    """Wait until the disk has the content: a name must not outlive a power cut without it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
