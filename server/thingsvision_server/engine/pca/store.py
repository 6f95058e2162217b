"""Stores fitted PCAs under the SHA-256 of their files, and finds them by SHA-256 or name.

A name need only be unique among PCAs of the same features: it may be the name of a set of images,
with a PCA of that name for each model.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakValueDictionary

import structlog

from ...errors import (
    ChecksumError,
    InvalidRequestError,
    PCAMismatchError,
    StorageError,
    UnknownPCAError,
    choices,
)
from ...sources.digests import is_sha256
from .file import parse_pca, read_description, write_pca
from .fitted import PCA, Axes, FeatureFacts, PCADescription, PCARecord

_SUFFIX = ".safetensors"
_UNFINISHED = "unfinished-"
_UNFINISHED_SECONDS = 24 * 60 * 60
_MAX_CHARACTERS = 200

_RECENT_BYTES = 256 * 1024 * 1024
"""Size of the PCAs that stay in memory for the next request."""

_log = structlog.get_logger(__name__)


class PCAStore:
    """A folder of PCAs within a quota. All methods may block; threads may share it."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._known: dict[str, PCARecord] = {}
        self._loaded: WeakValueDictionary[str, PCA] = WeakValueDictionary()
        """PCAs that requests use now, and recent PCAs: all users of a PCA share its arrays."""
        self._recent: list[PCA] = []
        self._remove_unfinished()

    def records(self) -> list[PCARecord]:
        """Return the records of all PCAs, oldest first."""
        found = map(self._record, self._folder.glob(f"*{_SUFFIX}"))
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.fitted_at, record.sha256))

    def find_records(self, wanted: str) -> list[PCARecord]:
        """Return the PCAs with a SHA-256 or a name, at least one; else raise UnknownPCAError."""
        records = self.records()
        found = [one for one in records if wanted in (one.sha256, one.description.name)]
        if not found:
            names = [one.description.name or one.sha256 for one in records]
            hint = choices(wanted, dict.fromkeys(names)) or "No PCA has been fitted yet."
            sentence = f"there is no PCA {wanted!r}. {hint}"
            raise UnknownPCAError(sentence, field="reduction.pca", subject=wanted)
        return found

    def find(self, wanted: str, facts: FeatureFacts, shapes: Mapping[str, tuple[int, ...]]) -> PCA:
        """Return the PCA with a SHA-256 or a name that fits features of these shapes, by module.

        Raises UnknownPCAError, and PCAMismatchError if it was fitted on other features; of several
        PCAs of that name, the error describes the most similar.
        """
        records = self.find_records(wanted)
        records.sort(key=lambda record: len(record.description.mismatches(facts, shapes)))
        records[0].check(facts, shapes)
        if len(records) > 1 and not records[1].description.mismatches(facts, shapes):
            raise PCAMismatchError(
                f"{records[0]} and {records[1]} both fit these features; name one by its SHA-256",
                field="reduction.pca",
                subject=wanted,
            )
        return self._load(records[0])

    def find_existing(self, description: PCADescription) -> PCARecord | None:
        """Return the stored PCA of the same name, features, images and components, if any.

        Raises InvalidRequestError if the name is not valid, or if a stored PCA has the same name
        and features, but other images or components. An empty `images_sha256` is not compared.
        """
        name = description.name
        _check_name(name)
        for record in self.records() if name else []:
            stored = record.description
            same_features = not stored.facts.differences(description.facts)
            if stored.name != name or not same_features or not _overlap(stored, description):
                continue
            if differences := _differences(stored, description):
                raise InvalidRequestError(
                    f"{record} already exists for the same features: {'; '.join(differences)}. "
                    "Choose another name, or delete it",
                    field="name",
                    subject=name,
                )
            return record
        return None

    def keep(
        self, description: PCADescription, images: str, modules: Mapping[str, Axes]
    ) -> PCARecord:
        """Write a PCA and return its record; if it exists already, leave it as it is.

        `images` are the lines whose SHA-256 is `images_sha256`. Raises as `find_existing` does, and
        StorageError if the quota or the disk has no room.
        """
        with self._lock:
            if (stored := self.find_existing(description)) is not None:
                return stored
            self._folder.mkdir(parents=True, exist_ok=True)
            numbers = sum(one.mean.nbytes + one.axes.nbytes for one in modules.values())
            self._check_room(numbers + len(images.encode()))
            with TemporaryDirectory(dir=self._folder, prefix=_UNFINISHED) as folder:
                unfinished = Path(folder, "pca")
                try:
                    write_pca(unfinished, description, images, modules)
                except OSError as error:
                    sentence = f"a PCA can't be written to {self._folder}: {error}"
                    raise StorageError(sentence, subject=str(self._folder)) from error
                with unfinished.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                unfinished.replace(self._path(sha256))
        return self.find_records(sha256)[0]

    def delete(self, wanted: str) -> int:
        """Delete a PCA by its SHA-256 or its unique name; return the length of its file, bytes."""
        found = self.find_records(wanted)
        if len(found) > 1:
            digests = ", ".join(f"{one.sha256} ({one.description.facts.model})" for one in found)
            sentence = (
                f"{len(found)} PCAs are called {wanted!r}; name one by its SHA-256: {digests}"
            )
            raise InvalidRequestError(sentence, field="pca", subject=wanted)
        self._path(found[0].sha256).unlink(missing_ok=True)
        return found[0].size_bytes

    def _load(self, record: PCARecord) -> PCA:
        with self._lock:
            loaded = self._loaded.get(record.sha256)
            if loaded is None or loaded.record != record:
                modules = parse_pca(self._content(record), record.description)
                loaded = self._loaded[record.sha256] = PCA(record, modules)
            self._recent = [loaded, *(one for one in self._recent if one is not loaded)]
            while sum(one.record.size_bytes for one in self._recent) > _RECENT_BYTES:
                self._recent.pop()
            return loaded

    def _content(self, record: PCARecord) -> bytes:
        path = self._path(record.sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # deleted in this moment
            sentence = f"{record} has been deleted"
            raise UnknownPCAError(sentence, field="reduction.pca", subject=record.sha256) from None
        if hashlib.sha256(content).hexdigest() != record.sha256:
            sentence = f"the file of {record} is corrupted: delete the PCA, and fit it again"
            raise ChecksumError(sentence, field="reduction.pca", subject=record.sha256)
        return content

    def _record(self, path: Path) -> PCARecord | None:
        """Return the record of a file; None if the file is not a PCA."""
        if not is_sha256(path.stem):
            return None
        try:
            status = path.stat()
            facts = (status.st_size, status.st_mtime)
            known = self._known.get(path.stem)
            if known is None or (known.size_bytes, known.fitted_at) != facts:
                known = PCARecord(path.stem, read_description(path), *facts)
                self._known[path.stem] = known
        except FileNotFoundError:  # deleted in this moment
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("skipped a file that is not a PCA", path=str(path), reason=str(error))
            return None
        return known

    def _remove_unfinished(self) -> None:
        """Remove unfinished files of a killed server; younger files may be of another server."""
        for folder in self._folder.glob(f"{_UNFINISHED}*"):
            if time.time() - folder.stat().st_mtime > _UNFINISHED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_room(self, size_bytes: int) -> None:
        used = sum(path.stat().st_size for path in self._folder.glob(f"*{_SUFFIX}"))
        if used + size_bytes > self._quota_bytes:
            raise StorageError(
                f"no room for {size_bytes:,} bytes: PCAs use {used:,} of this server's quota of "
                f"{self._quota_bytes:,} bytes. Delete some (`pcas` lists "
                "them, `delete-pca` deletes one), ask for fewer components, or start the server "
                "with a larger --pca-quota",
                field="component_count",
            )

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}{_SUFFIX}"


def _check_name(name: str) -> None:
    if is_sha256(name) or len(name) > _MAX_CHARACTERS or not (name.isprintable() or not name):
        sentence = (
            f"a PCA's name must be a line of at most {_MAX_CHARACTERS} characters, not a SHA-256"
        )
        raise InvalidRequestError(f"{sentence}; got {name!r}", field="name", subject=name)


def _overlap(one: PCADescription, other: PCADescription) -> bool:
    return bool(one.shapes.keys() & other.shapes.keys())


def _differences(stored: PCADescription, new: PCADescription) -> list[str]:
    found = []
    pairs: dict[str, tuple[object, object]] = {
        "components": (stored.component_count, new.component_count),
        "modules": (sorted(stored.shapes), sorted(new.shapes)),
    }
    if new.images_sha256:
        pairs["images"] = (_images(stored), _images(new))
    for what, (old, asked) in pairs.items():
        if old != asked:
            found.append(f"its {what} are {old}, not {asked}")
    return found


def _images(description: PCADescription) -> str:
    return f"{description.image_count:,} with SHA-256 {description.images_sha256}"
