"""Keeps state dicts that clients send, under their SHA-256; knows no gRPC.

A file gets its final name only when its length, its digest and its format were checked.
"""

from __future__ import annotations

import errno
import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..errors import ChecksumError, InvalidRequestError, StorageError
from .weights import read_state_dict

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Upload:
    """A file on its way."""

    target: Path
    size_bytes: int
    file: IO[bytes]
    received_bytes: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, chunk: bytes) -> None:
        """Add the next bytes; raise where they are more than was said, or the disk is full."""
        self.received_bytes += len(chunk)
        if self.received_bytes > self.size_bytes:
            sentence = f"more than the {self.size_bytes:,} bytes of size_bytes arrived"
            raise InvalidRequestError(sentence, field="chunk")
        try:
            self.file.write(chunk)
        except OSError as error:
            if error.errno not in _FULL_DISK:
                raise
            sentence = f"no room in {self.target.parent} for {self.size_bytes:,} bytes"
            raise StorageError(sentence, field="chunk") from error
        self.digest.update(chunk)

    def finish(self) -> None:
        """Check the whole file and give it its name."""
        if self.received_bytes != self.size_bytes:
            sentence = f"{self.received_bytes:,} of {self.size_bytes:,} bytes arrived"
            raise InvalidRequestError(sentence, field="chunk")
        if self.digest.hexdigest() != self.target.name:
            sentence = (
                f"the bytes have the SHA-256 {self.digest.hexdigest()}, not the one announced"
            )
            raise ChecksumError(sentence, field="sha256", subject=self.target.name)
        self.file.flush()
        read_state_dict(Path(self.file.name), called="the uploaded file")
        Path(self.file.name).rename(self.target)


class UploadStore:
    """The folder of uploaded files."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def has(self, sha256: str) -> bool:
        """Tell whether a file is kept; raise where the digest is none."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            sentence = f"{sha256!r} is no SHA-256; give 64 lower-case hex digits"
            raise InvalidRequestError(sentence, field="sha256", subject=sha256)
        return (self._folder / sha256).is_file()

    @contextmanager
    def begin(self, sha256: str, size_bytes: int) -> Iterator[Upload]:
        """Open a file under a temporary name; what is not finished is removed."""
        if not 0 < size_bytes <= self._max_bytes:
            limit = f"a file of weights has 1 to {self._max_bytes:,} bytes on this server"
            raise InvalidRequestError(f"{limit}, not {size_bytes:,}", field="size_bytes")
        self._folder.mkdir(parents=True, exist_ok=True)
        folder, prefix = self._folder, "partial-"
        with tempfile.NamedTemporaryFile(dir=folder, prefix=prefix, delete=False) as file:
            try:
                yield Upload(self._folder / sha256, size_bytes, file)
            finally:
                Path(file.name).unlink(missing_ok=True)
