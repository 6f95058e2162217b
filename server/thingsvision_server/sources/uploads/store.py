"""Keeps files that clients send, under their SHA-256; knows no gRPC.

A file gets its final name only when its length, its digest and its format were checked. What a
broken upload has sent stays for a day under `partial-{sha256}`, and the next one goes on there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
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
    """What a client says of the file that it will send."""

    sha256: str
    size_bytes: int
    name: str = ""
    preprocessing: Preprocessing | None = None


@dataclass
class Upload:
    """A file on its way. Its methods may block, and are called one after the other."""

    target: Path
    announced: Announcement
    file: IO[bytes]
    """Opened for appending, unbuffered: what a server that dies was sent is on the disk."""
    received_bytes: int = 0
    ended_early: bool = False
    """Whether it ended before all was sent: gRPC may tell so of a connection that broke."""
    digest: Any = field(default_factory=hashlib.sha256)
    _writing: threading.Lock = field(default_factory=threading.Lock)

    def resume(self) -> int:
        """Read what an earlier upload left, and return from which byte on the rest is wanted."""
        self.file.seek(0)
        while chunk := self.file.read(_READ_BYTES):
            self.digest.update(chunk)
            self.received_bytes += len(chunk)
        return self.received_bytes

    def write(self, chunk: bytes) -> None:
        """Add the next bytes; raise where they are more than was said, or the disk is full."""
        with self._writing:
            if self.file.closed:  # whoever sent them is gone
                return
            size = self.announced.size_bytes
            if self.received_bytes + len(chunk) > size:
                sentence = f"more than the {size:,} bytes of size_bytes arrived"
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
            sentence = f"no room in {self.target.parent} for {self.announced.size_bytes:,} bytes"
            raise StorageError(sentence, field="chunk") from error

    def finish(self) -> UploadRecord:
        """Check the whole file, give it its name, and return what is known of it."""
        announced = self.announced
        if self.received_bytes != announced.size_bytes:
            self.ended_early = True
            sentence = (
                f"{self.received_bytes:,} of {announced.size_bytes:,} bytes arrived; they are kept "
                "for a day: send the file again to go on there"
            )
            raise InvalidRequestError(sentence, field="chunk")
        if self.digest.hexdigest() != announced.sha256:
            sentence = (
                f"the bytes have the SHA-256 {self.digest.hexdigest()}, not the one announced; "
                "what was kept of them is deleted: send the file again"
            )
            raise ChecksumError(sentence, field="sha256", subject=announced.sha256)
        path = Path(self.file.name)
        kind = check_file(path, called="the uploaded file")
        if announced.preprocessing is not None:
            check_declaration(announced.preprocessing, is_model=FORMATS[kind].is_model)
        os.fsync(self.file.fileno())
        record = UploadRecord(
            announced.sha256,
            announced.size_bytes,
            kind,
            time.time(),
            announced.name,
            announced.preprocessing,
        )
        write_record(self.target.parent, record)
        path.rename(self.target)
        return record

    def close(self) -> None:
        """Let the file go, once a write that may be under way is done."""
        with self._writing:
            self.file.close()


class UploadStore:
    """The folder of uploaded files; several servers may share it."""

    def __init__(self, folder: Path, max_bytes: int, quota_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._quota_bytes = quota_bytes
        self._announced: dict[Path, int] = {}
        """Length of what is on its way now, by the file that it is written to."""
        self._lock = threading.Lock()
        self._remove_partials(_PARTIAL_SECONDS)

    def records(self) -> list[UploadRecord]:
        """Return what is known of every file, the oldest first."""
        return list_records(self._folder)

    def find(self, announced: Announcement) -> UploadRecord | None:
        """Return what is known of an announced file that is here; None where it has to be sent.

        Raises InvalidRequestError where the digest is none, or it was declared otherwise.
        """
        if not is_sha256(announced.sha256):
            sentence = f"{announced.sha256!r} is no SHA-256; give 64 lower-case hex digits"
            raise InvalidRequestError(sentence, field="sha256", subject=announced.sha256)
        record = find_record(self._folder, announced.sha256)
        if record is None or announced.preprocessing is None:
            return record
        if record.preprocessing is not None:
            check_same_declaration(record.sha256, record.preprocessing, announced.preprocessing)
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
        """Open a file for what will be sent; an upload that breaks off leaves what came.

        What is wrong in itself (all other errors of ours) leaves nothing. Raises
        InvalidRequestError for a size that can't be, StorageError where the quota has no room.
        """
        size = announced.size_bytes
        if not 0 < size <= self._max_bytes:
            limit = f"an uploaded file has 1 to {self._max_bytes:,} bytes on this server"
            raise InvalidRequestError(f"{limit}, not {size:,}", field="size_bytes")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove_partials(_PARTIAL_SECONDS)
        upload = Upload(self._folder / announced.sha256, announced, self._open(announced))
        path = Path(upload.file.name)
        broke_off = True
        try:
            self._reserve(path, size)
            yield upload
            broke_off = False
        except ThingsvisionError:
            broke_off = upload.ended_early
            raise
        finally:
            is_left_for_the_next = broke_off and path.name == _PARTIAL + announced.sha256
            if not is_left_for_the_next:
                path.unlink(missing_ok=True)
            upload.close()
            with self._lock:
                self._announced.pop(path, None)

    def delete(self, sha256: str) -> int:
        """Delete a file and return its length, bytes; raise UnknownWeightsError."""
        record = read_record(self._folder, sha256, field="sha256")
        (self._folder / sha256).unlink(missing_ok=True)
        delete_record(self._folder, sha256)
        return record.size_bytes

    def _open(self, announced: Announcement) -> IO[bytes]:
        """Open the partial file of a digest; one of its own where another upload writes it."""
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
            if self._stored_bytes() + size_bytes > self._quota_bytes:
                self._remove_partials(0)
            used_bytes = self._stored_bytes()
            if used_bytes + size_bytes > self._quota_bytes:
                raise StorageError(
                    f"no room for {size_bytes:,} bytes: uploads take {used_bytes:,} of the "
                    f"{self._quota_bytes:,} bytes that this server keeps. Delete some (`uploads` "
                    "lists them, `delete-upload` deletes one), or start the server with a larger "
                    "--upload-quota",
                    field="size_bytes",
                )
            self._announced[path] = size_bytes

    def _stored_bytes(self) -> int:
        """Return the length of all files, with those on their way as long as they will be."""
        kept: dict[Path, int] = {}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # an upload that ends renames its file
                if path.is_file():
                    kept[path] = path.stat().st_size
        return sum((kept | self._announced).values())

    def _remove_partials(self, older_than_seconds: float) -> None:
        """Remove what broken uploads left, unless someone writes it now."""
        for path in self._folder.glob(f"{_PARTIAL}*"):
            with suppress(FileNotFoundError), path.open("r+b") as file:
                age_seconds = time.time() - os.fstat(file.fileno()).st_mtime
                if age_seconds >= older_than_seconds and _is_mine(file, path):
                    path.unlink()


def _is_mine(file: IO[bytes], path: Path) -> bool:
    """Lock an open file against all other uploads; False where one has it, or it was renamed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
