"""The files of PCAs, each under its SHA-256, in a folder that several servers may share."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from ...errors import ChecksumError, StorageError, UnknownPCAError
from ...shared_folder.claims import Claims
from ...shared_folder.exclusion import remove_left
from ...shared_folder.unfinished import remove_unfinished, unfinished_folder
from ...shortages import raise_shortage
from ...sources.digests import is_sha256
from .file import parse_pca, read_description, write_pca
from .fitted import PCA, Axes, PCADescription, PCARecord

_SUFFIX = ".safetensors"

_RECENT_BYTES = 256 * 1024 * 1024
"""Size of the PCAs that stay in memory for the next request."""

_Version = tuple[str, int, float]
"""A file's SHA-256, size and time: one that changed is read again, and told."""

_GONE = (errno.ENOENT, errno.ESTALE)
"""How a disk says that a file was deleted; the second says so of a network's disk."""

_log = structlog.get_logger(__name__)


class _Modules(dict[str, Axes]):
    """The arrays of a PCA, by module: all users of a PCA share them."""


class PCAFolder:
    """A folder of PCAs within a quota. All methods may block; threads may share it.

    `claims` tells which of the servers that share the folder are alive.
    """

    def __init__(self, path: Path, quota_bytes: int, claims: Claims | None) -> None:
        self.path = path
        self.quota_bytes = quota_bytes
        self._server = "" if claims is None else claims.server
        self._lock = threading.Lock()
        self._known: dict[str, PCARecord] = {}
        self._loaded: WeakValueDictionary[_Version, _Modules] = WeakValueDictionary()
        """Of PCAs that requests use now, and of recent PCAs."""
        self._recent: list[tuple[PCARecord, _Modules]] = []
        remove_left(path)
        heartbeats = None if claims is None else claims.heartbeats
        remove_unfinished(path, heartbeats)
        if heartbeats is not None:
            heartbeats.after_death(lambda _: remove_unfinished(path, heartbeats))

    def records(self) -> list[PCARecord]:
        """Return the records of all files, oldest first."""
        found = (self.record(path.stem) for path in self.path.glob(f"*{_SUFFIX}"))
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.fitted_at, record.sha256))

    def record(self, sha256: str) -> PCARecord | None:
        """Return the record of a file; None if it is not there, or not a PCA."""
        if not is_sha256(sha256):
            return None
        path = self.path_of(sha256)
        try:
            status = path.stat()
            facts = (status.st_size, status.st_mtime)
            known = self._known.get(sha256)
            if known is None or (known.size_bytes, known.fitted_at) != facts:
                known = PCARecord(sha256, read_description(path), *facts)
                self._known[sha256] = known
        except (OSError, ValueError, TypeError, KeyError) as error:
            if getattr(error, "errno", None) in _GONE:  # perhaps deleted in this moment
                return None
            raise_shortage(error)
            _log.warning("skipped a file that is not a PCA", path=str(path), reason=str(error))
            return None
        return known

    def load(self, record: PCARecord) -> PCA:
        """Return a PCA with its arrays. Raises UnknownPCAError if it was deleted meanwhile."""
        with self._lock:
            version = (record.sha256, record.size_bytes, record.fitted_at)
            modules = self._loaded.get(version)
            if modules is None:
                modules = _Modules(parse_pca(self._content(record), record.description))
                self._loaded[version] = modules
            others = [one for one in self._recent if one[1] is not modules]
            self._recent = [(record, modules), *others]
            while sum(one.size_bytes for one, _ in self._recent) > _RECENT_BYTES:
                self._recent.pop()
            return PCA(record, modules)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the SHA-256 and the bytes of each file."""
        for path in self.path.glob(f"*{_SUFFIX}"):
            yield path.stem, _size_bytes(path)

    @contextmanager
    def writing(
        self, description: PCADescription, images: str, modules: Mapping[str, Axes]
    ) -> Iterator[tuple[Path, PCARecord]]:
        """Write a file that has no name yet, which is deleted at the end if it got none.

        Raises StorageError if the quota or the disk has no room.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        numbers = sum(one.mean.nbytes + one.axes.nbytes for one in modules.values())
        self._check_room(numbers + len(images.encode()))
        with unfinished_folder(self.path, self._server) as folder:
            path = folder / "pca"
            try:
                write_pca(path, description, images, modules)
            except OSError as error:
                sentence = f"a PCA can't be written to {self.path}: {error}"
                raise StorageError(sentence, subject=str(self.path)) from error
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            status = path.stat()
            facts = (status.st_size, status.st_mtime)
            yield path, PCARecord(sha256, read_description(path), *facts)

    def finish(self, path: Path, record: PCARecord) -> PCARecord:
        """Give a file its name; a file that was there before, perhaps damaged, leaves its age."""
        target = self.path_of(record.sha256)
        with suppress(FileNotFoundError):
            before = target.stat()
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            record = replace(record, fitted_at=before.st_mtime)
        path.replace(target)
        return record

    def _content(self, record: PCARecord) -> bytes:
        try:
            content = self.path_of(record.sha256).read_bytes()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            sentence = f"{record} has been deleted"
            raise UnknownPCAError(sentence, field="reduction.pca", subject=record.sha256) from None
        if hashlib.sha256(content).hexdigest() != record.sha256:
            sentence = f"the file of {record} is corrupted: delete the PCA, and fit it again"
            raise ChecksumError(sentence, field="reduction.pca", subject=record.sha256)
        return content

    def _check_room(self, size_bytes: int) -> None:
        used = sum(size for _, size in self.sizes())
        if used + size_bytes > self.quota_bytes:
            raise StorageError(
                f"no room for {size_bytes:,} bytes: PCAs use {used:,} of this server's quota of "
                f"{self.quota_bytes:,} bytes. Delete some (`pcas` lists "
                "them, `delete-pca` deletes one), ask for fewer components, or start the server "
                "with a larger --pca-quota",
                field="component_count",
            )

    def path_of(self, sha256: str) -> Path:
        """Return where the file with a SHA-256 is, or would be."""
        return self.path / f"{sha256}{_SUFFIX}"


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # deleted in this moment, perhaps by another server
        return 0
