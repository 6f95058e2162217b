"""Atomic writes (a file appears whole or not at all), names of files, and their SHA-256."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote
from uuid import uuid4

from .errors import BadImage

CHUNK_BYTES = 1024 * 1024

SKIPPED = "skipped.txt"
"""The file that lists images without a row."""

_FORBIDDEN_IN_FILES = frozenset('<>:"/\\|?*%')


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` if the block succeeds, and is deleted otherwise."""
    with atomic_path(path) as unfinished, unfinished.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a free path, of the same ending, for a file that replaces `path` if the block succeeds.

    The block writes and closes the file. If the block fails, the file is deleted and an older
    `path` stays. Folders are created if necessary.
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
    """Return the path of a file's metadata: its own with `.json` appended."""
    return path.with_name(f"{path.name}.json")


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 (hex) of the rest of an open file, in flat memory."""
    if sys.version_info >= (3, 11):
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def file_stem(module: str) -> str:
    """Return a file name for a module: unique per module, valid on every system.

    `%` and what file systems forbid (`/`, `:` ...) become `%XX` as in URLs; the model as a whole,
    whose name is empty, becomes `(model)`.
    """
    return "".join(map(_in_file, module)) or "(model)"


def _in_file(character: str) -> str:
    is_safe = character.isprintable() and character not in _FORBIDDEN_IN_FILES
    return character if is_safe else quote(character, safe="")


def _sync(path: Path) -> None:
    """Wait until the disk has the content: after a power cut, no name may lack its content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_skipped(path: Path, skipped: Sequence[BadImage]) -> None:
    """Write a line per image: its place, its name and what is wrong with it, with tabs between."""
    lines = "".join(
        f"{one.place}\t{_in_line(one.name)}\t{_in_line(one.reason)}\n" for one in skipped
    )
    with atomic_file(path) as file:
        file.write(lines.encode(errors="replace"))


def read_skipped_names(path: Path) -> list[str]:
    """Return the names of the images in a file of `write_skipped`; empty if it can't be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.split("\t")[1] for line in lines if line.count("\t") == 2]


def _in_line(text: str) -> str:
    return " ".join(text.split("\n")).replace("\t", " ")
