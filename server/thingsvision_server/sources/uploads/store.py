"""Stores files that clients upload, under their SHA-256.

A file gets its final name only after its length, digest and format have been checked. What an
interrupted upload has sent is kept for a day as `partial-{sha256}`, where the next upload resumes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...errors import (
    ChecksumError,
    InvalidRequestError,
    StorageError,
    ThingsvisionError,
)
from ...inputs import Preprocessing
from ..digests import is_sha256
from ..preprocessing.declaration import check_declaration, check_same_declaration
from .formats import FORMATS, check_file
from .records import (
    UploadRecord,
    delete_record,
    find_record,
    list_records,
    read_record,
    write_record,
)

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PARTIAL_SECONDS = 24 * 60 * 60
_PARTIAL = "partial-"
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Announcement:
    """What a client announces about the file that it will send."""

    sha256: str
    size_bytes: int
    name: str = ""
    preprocessing: Preprocessing | None = None


Check = Callable[[Path, UploadRecord], None]
"""Raises InvalidWeightsError if a complete file can't be used."""


def _accept(_path: Path, _record: UploadRecord) -> None:
    """Let any file pass."""


@dataclass
class Upload:
    """A file being uploaded. Its methods may block, and are called one at a time."""

    target: Path
    announced: Announcement
    file: IO[bytes]
    """Opened for appending, unbuffered: all received bytes are on disk even if the server dies."""
    check: Check = _accept
    """Called with the complete file and its record before it is stored."""
    received_bytes: int = 0
    ended_early: bool = False
    """Whether it ended before all bytes arrived, as a broken connection may look to gRPC."""
    digest: Any = field(default_factory=hashlib.sha256)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def resume(self) -> int:
        """Read what an earlier upload left, and return the byte offset to resume at."""
        self.file.seek(0)
        while chunk := self.file.read(_READ_BYTES):
            self.digest.update(chunk)
            self.received_bytes += len(chunk)
        return self.received_bytes

    def write(self, chunk: bytes) -> None:
        """Append the next bytes; raise if they exceed the announced size, or the disk is full."""
        with self._writing:
            if self.file.closed:  # the client is gone
                return
            size = self.announced.size_bytes
            if self.received_bytes + len(chunk) > size:
                sentence = f"the file must have `size_bytes` = {size:,} bytes, got more"
                raise InvalidRequestError(sentence, field="chunk")
            self._append(chunk)
            self.digest.update(chunk)
            self.received_bytes += len(chunk)

    def _append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            if error.errno not in _FULL_DISK:
                raise
            sentence = (
                f"no room in {self.target.parent} for an upload of {self.announced.size_bytes:,} "
                "bytes"
            )
            raise StorageError(sentence, field="chunk") from error

    def finish(self) -> UploadRecord:
        """Check the complete file, give it its final name, and return its record."""
        announced = self.announced
        if self.received_bytes != announced.size_bytes:
            self.ended_early = True
            sentence = (
                f"{self.received_bytes:,} of {announced.size_bytes:,} bytes arrived; they are kept "
                "for a day: send the file again to resume there"
            )
            raise InvalidRequestError(sentence, field="chunk")
        if self.digest.hexdigest() != announced.sha256:
            sentence = (
                f"the received bytes must have the SHA-256 {announced.sha256}, got "
                f"{self.digest.hexdigest()}; they were deleted: send the file again"
            )
            raise ChecksumError(sentence, field="sha256", subject=announced.sha256)
        path = Path(self.file.name)
        kind = check_file(path, called=announced.name or "the uploaded file")
        if announced.preprocessing is not None:
            check_declaration(announced.preprocessing, is_model=FORMATS[kind].is_model)
        record = self._record(kind)
        self.check(path, record)
        os.fsync(self.file.fileno())
        write_record(self.target.parent, record)
        path.rename(self.target)
        return record

    def _record(self, kind: str) -> UploadRecord:
        return UploadRecord(
            sha256=self.announced.sha256,
            size_bytes=self.announced.size_bytes,
            format=kind,
            uploaded_at=time.time(),
            name=self.announced.name,
            preprocessing=self.announced.preprocessing,
        )

    def close(self) -> None:
        """Close the file, after waiting for a write that may be in progress."""
        with self._writing:
            self.file.close()


class UploadStore:
    """The folder of uploaded files; several servers may share it."""

    def __init__(
        self, folder: Path, max_bytes: int, quota_bytes: int, check: Check = _accept
    ) -> None:
        self._folder = folder
        self._check = check
        self._max_bytes = max_bytes
        self._quota_bytes = quota_bytes
        self._announced: dict[Path, int] = {}
        """Announced size of each upload in progress, by the file that it is written to."""
        self._lock = threading.Lock()
        self._remove_partials(_PARTIAL_SECONDS)

    def records(self) -> list[UploadRecord]:
        """Return the records of all files, the oldest first."""
        return list_records(self._folder)

    def find(self, announced: Announcement) -> UploadRecord | None:
        """Return the record of an announced file; None if it has to be sent.

        Adds a preprocessing that the record does not have yet. Raises InvalidRequestError if the
        digest is invalid, or if the file was declared with another preprocessing.
        """
        if not is_sha256(announced.sha256):
            sentence = f"`sha256` must be 64 lower-case hex digits, got {announced.sha256!r}"
            raise InvalidRequestError(sentence, field="sha256", subject=announced.sha256)
        record = find_record(self._folder, announced.sha256)
        if record is None or announced.preprocessing is None:
            return record
        if record.preprocessing is not None:
            check_same_declaration(record.called, record.preprocessing, announced.preprocessing)
            return record
        is_model = record.format in FORMATS and FORMATS[record.format].is_model
        check_declaration(announced.preprocessing, is_model=is_model)
        name = announced.name or record.name
        changes = {"preprocessing": announced.preprocessing, "name": name}
        record = UploadRecord(**(vars(record) | changes))
        write_record(self._folder, record)
        return record

    @contextmanager
    def begin(self, announced: Announcement) -> Iterator[Upload]:
        """Open a file for an upload; an interrupted upload leaves the bytes that arrived.

        An upload that fails with any other error of ours leaves nothing. Raises
        InvalidRequestError if the size is out of range, StorageError if it exceeds the quota.
        """
        size = announced.size_bytes
        if not 0 < size <= self._max_bytes:
            sentence = f"`size_bytes` must be 1 to {self._max_bytes:,} on this server, got {size:,}"
            raise InvalidRequestError(sentence, field="size_bytes")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_partials(_PARTIAL_SECONDS)
        upload = Upload(
            self._folder / announced.sha256, announced, self._open(announced), self._check
        )
        path = Path(upload.file.name)
        interrupted = True
        try:
            self._reserve(path, size)
            yield upload
            interrupted = False
        except ThingsvisionError:
            interrupted = upload.ended_early
            raise
        finally:
            can_resume = interrupted and path.name == _PARTIAL + announced.sha256
            if not can_resume:
                path.unlink(missing_ok=True)
            upload.close()
            with self._lock:
                self._announced.pop(path, None)

    def delete(self, sha256: str) -> int:
        """Delete a file and return its size, bytes; raise UnknownWeightsError."""
        record = read_record(self._folder, sha256, field="sha256")
        (self._folder / sha256).unlink(missing_ok=True)
        delete_record(self._folder, sha256)
        return record.size_bytes

    def _open(self, announced: Announcement) -> IO[bytes]:
        """Open the partial file of a digest, or a separate file if another upload is writing it."""
        path = self._folder / f"{_PARTIAL}{announced.sha256}"
        file = path.open("a+b", buffering=0)
        if _is_mine(file, path):
            if path.stat().st_size > announced.size_bytes:
                file.truncate(0)
            return file
        file.close()
        return tempfile.NamedTemporaryFile(
            "a+b", 0, dir=self._folder, prefix=f"{path.name}-", delete=False
        )

    def _reserve(self, path: Path, size_bytes: int) -> None:
        with self._lock:
            if self._total_bytes() + size_bytes > self._quota_bytes:
                self._remove_partials(0)
            used_bytes = self._total_bytes()
            if used_bytes + size_bytes > self._quota_bytes:
                raise StorageError(
                    f"no room for {size_bytes:,} bytes: uploads use {used_bytes:,} of "
                    f"this server's quota of {self._quota_bytes:,} bytes. Delete some (`uploads` "
                    "lists them, `delete-upload` deletes one), or start the server with a larger "
                    "--upload-quota",
                    field="size_bytes",
                )
            self._announced[path] = size_bytes

    def _total_bytes(self) -> int:
        """Return the size of all files, uploads in progress at their announced size."""
        sizes: dict[Path, int] = {}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # a finished upload renames its file
                if path.is_file():
                    sizes[path] = path.stat().st_size
        return sum((sizes | self._announced).values())

    def _remove_partials(self, older_than_seconds: float) -> None:
        """Delete what interrupted uploads left, unless an upload is writing it now."""
        for path in self._folder.glob(f"{_PARTIAL}*"):
            with suppress(FileNotFoundError), path.open("r+b") as file:
                age_seconds = time.time() - os.fstat(file.fileno()).st_mtime
                if age_seconds >= older_than_seconds and _is_mine(file, path):
                    path.unlink()


def _is_mine(file: IO[bytes], path: Path) -> bool:
    """Lock an open file; return False if another upload has locked or renamed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
