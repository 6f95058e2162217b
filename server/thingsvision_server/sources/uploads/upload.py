"""A file that a client is sending: counted, checked when it is complete, then stored."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...errors import ChecksumError, InvalidRequestError, StorageError
from ...inputs import Preprocessing
from ...shortages import shortage_behind
from ..preprocessing.declaration import check_declaration
from .formats import FORMATS, check_file
from .person_room import PersonRoom
from .records import UploadRecord
from .room import Room

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Announcement:
    """What a client announces about the file that it will send."""

    sha256: str
    size_bytes: int
    name: str = ""
    preprocessing: Preprocessing | None = None
    sender: str = ""
    """Who sends it: only a sender's own uploads are resumed."""
    is_shared: bool = False
    """Whether the sender shares it; what is shared already stays so."""


def _accept(_path: Path, _record: UploadRecord) -> None:
    """Let any file pass."""


def _leave(_path: Path) -> None:
    """Do nothing."""


def _begin() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class FileChecks:
    """What checks a complete file before it is stored; both raise InvalidWeightsError."""

    format_of: Callable[[Path, str], str] = check_file
    """Called with the file and a name for it; returns its format."""
    usable: Callable[[Path, UploadRecord], None] = _accept
    """Called with the file and its record."""
    end: Callable[[Path], None] = _leave
    """Called after the checks, whatever came of them, and when a file was deleted."""
    interrupt: Callable[[Path], None] = _leave
    """Called if nobody waits for the checks any more: they may raise any error of ours."""
    prepare: Callable[[], None] = _begin
    """Called when an upload begins, so that what checks it is ready when it is there."""


@dataclass
class Upload:
    """A file being uploaded. Its methods may block, and are called one at a time."""

    announced: Announcement
    file: IO[bytes]
    """Opened for appending, unbuffered: all received bytes are on disk even if the server dies."""
    room: Room
    keep: Callable[[Path, UploadRecord], UploadRecord]
    """Called with the complete file and its record; stores the file."""
    own_room: PersonRoom
    """The room of the person who sends it."""
    checks: FileChecks = field(default_factory=FileChecks)
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
            with self._keep_if_full():
                self.own_room.check_again()
                self.room.take(len(chunk))
            self._append(chunk)
            self.digest.update(chunk)
            self.received_bytes += len(chunk)

    def check_room(self, size_bytes: int) -> None:
        """Raise StorageError if the rest of the file, of this size, does not fit in the quota.

        The whole file must also fit in what its sender may have.
        """
        with self._keep_if_full():
            self.own_room.check()
            self.room.check(size_bytes)

    @contextmanager
    def _keep_if_full(self) -> Iterator[None]:
        """Keep what arrived if there is no room, so that it can be resumed when there is."""
        try:
            yield
        except StorageError:
            self.ended_early = True
            raise

    def _append(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            if not isinstance(shortage_behind(error), StorageError):
                raise
            folder, size = Path(self.file.name).parent, self.announced.size_bytes
            sentence = f"no room in {folder} for an upload of {size:,} bytes"
            raise StorageError(sentence, field="chunk") from error

    def finish(self) -> UploadRecord:
        """Check the complete file, store it, and return its record."""
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
        record = self._check(path)
        os.fsync(self.file.fileno())
        with self._keep_if_full():
            self.own_room.check()  # others of the person's files may be complete meanwhile
        return self.keep(path, record)

    def interrupt(self) -> None:
        """End the checks of a complete file, as its sender has gone."""
        self.checks.interrupt(Path(self.file.name))

    def _check(self, path: Path) -> UploadRecord:
        """Return the record of a complete file that can be used."""
        announced = self.announced
        try:
            kind = self.checks.format_of(path, announced.name or "the uploaded file")
            if announced.preprocessing is not None:
                check_declaration(announced.preprocessing, is_model=FORMATS[kind].is_model)
            record = self._record(kind)
            self.checks.usable(path, record)
        finally:
            self.checks.end(path)
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
