"""Finds uploaded files and records that were damaged on the disk, and sets them aside.

A damaged file is renamed to `NAME.damaged` and named in the log; everything else goes on as if it
had never been there. Such files are deleted when uploads need room.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

import structlog

from ...errors import UnknownWeightsError

_log = structlog.get_logger(__name__)

_SUFFIX = ".damaged"

_Facts = tuple[int, int, int]
"""Inode, size in bytes and time of the last change of a file whose content was checked."""


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file, so that nothing reads it any more, and say so in the log."""
    kept = path.with_name(path.name + _SUFFIX)
    with suppress(FileNotFoundError):  # another request, or server, was quicker
        path.replace(kept)
        _log.error("an uploaded file is damaged", file=str(path), reason=reason, kept=kept.name)


def delete_set_aside(folder: Path) -> None:
    """Delete the damaged files of a folder."""
    for path in folder.glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)


class ContentChecks:
    """Compares uploaded files with their SHA-256, each once unless it changes. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked: dict[str, _Facts] = {}
        self._lock = threading.Lock()

    def check(self, sha256: str) -> None:
        """Raise UnknownWeightsError if a file is not what was uploaded, and set it aside."""
        path = self._folder / sha256
        try:
            facts = _facts(path)
            if self._checked.get(sha256) == facts:
                return
            with self._lock:  # a large file is read once, however many requests wait for it
                if self._checked.get(sha256) == facts:
                    return
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found == sha256:
                    self._checked[sha256] = facts
                    return
        except FileNotFoundError:  # deleted meanwhile; who opens it says so
            return
        set_aside(path, f"its SHA-256 is {found}")
        raise UnknownWeightsError(
            f"the uploaded file {sha256} was damaged on the server's disk (its bytes have the "
            f"SHA-256 {found}), and was set aside: upload it again",
            field="model.weights_sha256",
            subject=sha256,
        )


def _facts(path: Path) -> _Facts:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
