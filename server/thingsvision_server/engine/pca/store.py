"""Keeps fitted PCAs under the SHA-256 of their files, and finds them; fits none.

A name is of one PCA only among those of the same features: it may be that of a set of images, and
stand for a PCA of each model.
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
_MOST_LETTERS = 200

_RECENT_BYTES = 256 * 1024 * 1024
"""Numbers that stay in memory for the next request."""

_log = structlog.get_logger(__name__)


class PCAStore:
    """A folder of PCAs within a quota. All methods may block; threads may share it."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._known: dict[str, PCARecord] = {}
        self._loaded: WeakValueDictionary[str, PCA] = WeakValueDictionary()
        """Those that requests use now, and the recent ones: they share the numbers."""
        self._recent: list[PCA] = []
        self._remove_unfinished()

    def records(self) -> list[PCARecord]:
        """Return all, the oldest first."""
        found = map(self._record, self._folder.glob(f"*{_SUFFIX}"))
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.fitted_at, record.sha256))

    def named(self, wanted: str) -> list[PCARecord]:
        """Return those of a SHA-256 or a name, at least one; raise UnknownPCAError."""
        records = self.records()
        found = [one for one in records if wanted in (one.sha256, one.description.name)]
        if not found:
            names = [one.description.name or one.sha256 for one in records]
            hint = choices(wanted, dict.fromkeys(names)) or "None was fitted yet."
            sentence = f"there is no PCA {wanted!r}. {hint}"
            raise UnknownPCAError(sentence, field="reduction.pca", subject=wanted)
        return found

    def find(self, wanted: str, facts: FeatureFacts, shapes: Mapping[str, tuple[int, ...]]) -> PCA:
        """Return the PCA of a SHA-256 or a name for features of modules of these shapes.

        Raises UnknownPCAError, and PCAMismatchError where it was fitted on other features; of
        several of that name the most alike is told.
        """
        named = self.named(wanted)
        named.sort(key=lambda record: len(record.description.misfits(facts, shapes)))
        named[0].check(facts, shapes)
        if len(named) > 1 and not named[1].description.misfits(facts, shapes):
            raise PCAMismatchError(
                f"{named[0]} and {named[1]} are both for these features; name one by its SHA-256",
                field="reduction.pca",
                subject=wanted,
            )
        return self._load(named[0])

    def taken(self, description: PCADescription) -> PCARecord | None:
        """Return the PCA that is there of the same name, features, images and components, if any.

        Raises InvalidRequestError for a name that can't be one, or is that of a PCA of the same
        features, but of other images or components. An empty `images_sha256` is not compared.
        """
        name = description.name
        _check_name(name)
        for record in self.records() if name else []:
            there = record.description
            same_features = not there.facts.differences(description.facts)
            if there.name != name or not same_features or not _overlap(there, description):
                continue
            if differences := _differences(there, description):
                raise InvalidRequestError(
                    f"{record} is there for the same features: {'; '.join(differences)}. Choose "
                    "another name, or delete it",
                    field="name",
                    subject=name,
                )
            return record
        return None

    def keep(
        self, description: PCADescription, images: str, modules: Mapping[str, Axes]
    ) -> PCARecord:
        """Write a PCA, and return what is known of it; one that is there already stays.

        `images` are the lines of which `images_sha256` is the SHA-256. Raises as `taken`, and
        StorageError where the quota or the disk has no room.
        """
        with self._lock:
            if (there := self.taken(description)) is not None:
                return there
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
        return self.named(sha256)[0]

    def delete(self, wanted: str) -> int:
        """Delete a PCA by its SHA-256, or a name that only one has; return its length, bytes."""
        found = self.named(wanted)
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
            sentence = f"{record} is not here any more"
            raise UnknownPCAError(sentence, field="reduction.pca", subject=record.sha256) from None
        if hashlib.sha256(content).hexdigest() != record.sha256:
            sentence = f"the file of {record} is not what it was: delete it, and fit it again"
            raise ChecksumError(sentence, field="reduction.pca", subject=record.sha256)
        return content

    def _record(self, path: Path) -> PCARecord | None:
        """Return what is known of a file; None where it is of no PCA."""
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
            _log.warning("a file is of no PCA", path=str(path), reason=str(error))
            return None
        return known

    def _remove_unfinished(self) -> None:
        """Remove what a server that was killed left; other servers may write theirs now."""
        for folder in self._folder.glob(f"{_UNFINISHED}*"):
            if time.time() - folder.stat().st_mtime > _UNFINISHED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_room(self, size_bytes: int) -> None:
        used = sum(path.stat().st_size for path in self._folder.glob(f"*{_SUFFIX}"))
        if used + size_bytes > self._quota_bytes:
            raise StorageError(
                f"no room for {size_bytes:,} bytes: PCAs take {used:,} of the "
                f"{self._quota_bytes:,} bytes that this server keeps. Delete some (`pcas` lists "
                "them, `delete-pca` deletes one), ask for fewer components, or start the server "
                "with a larger --pca-quota",
                field="component_count",
            )

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}{_SUFFIX}"


def _check_name(name: str) -> None:
    if is_sha256(name) or len(name) > _MOST_LETTERS or not (name.isprintable() or not name):
        sentence = f"a PCA's name is a line of at most {_MOST_LETTERS} letters, and no SHA-256"
        raise InvalidRequestError(f"{sentence}: not {name!r}", field="name", subject=name)


def _overlap(one: PCADescription, other: PCADescription) -> bool:
    return bool(one.shapes.keys() & other.shapes.keys())


def _differences(there: PCADescription, new: PCADescription) -> list[str]:
    found = []
    pairs: dict[str, tuple[object, object]] = {
        "components": (there.component_count, new.component_count),
        "modules": (sorted(there.shapes), sorted(new.shapes)),
    }
    if new.images_sha256:
        pairs["images"] = (_images(there), _images(new))
    for what, (old, asked) in pairs.items():
        if old != asked:
            found.append(f"its {what} are {old}, and {asked} here")
    return found


def _images(description: PCADescription) -> str:
    return f"{description.image_count:,} of SHA-256 {description.images_sha256}"
