"""Stores fitted PCAs for their owners, and finds them by SHA-256 or by the names of their owners.

A name need only be unique among one person's PCAs of the same features: it may be the name of a set
of images, with a PCA of that name for each model. What others share is found by its SHA-256.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...access.owners import Owners, Ownership, owner_name, sees_all
from ...access.person import Person
from ...access.storage_limit import StorageLimit
from ...errors import (
    InvalidRequestError,
    PCAMismatchError,
    PermissionDeniedError,
    UnknownPCAError,
    choices,
)
from ...shared_folder.claims import Claims
from ...shared_folder.exclusion import alone
from ...sources.digests import is_sha256
from .fitted import PCA, Axes, FeatureFacts, PCADescription, PCARecord
from .folder import PCAFolder

_MAX_CHARACTERS = 200

_LONE_SECONDS = 24 * 60 * 60

_NAME = "name"
"""The fact that an owner's record has."""


class PCAStore:
    """The PCAs of people, within a quota. All methods may block; threads may share it.

    Several servers may share the folder; `claims` tells which of them are alive.
    """

    kind = "PCA"

    def __init__(
        self,
        folder: Path,
        quota_bytes: int,
        claims: Claims | None = None,
        *,
        person_bytes: int | None = None,
    ) -> None:
        self._limit = StorageLimit(
            "PCAs",
            "--person-pca-quota",
            "Delete some (`pcas` lists them, `delete-pca` deletes one), ask for fewer components",
            person_bytes,
        )
        self._folder = PCAFolder(folder, quota_bytes, claims)
        self._owners = Owners(folder / "owners", claims)
        self._keeping = threading.Lock()
        self._delete_unowned()

    def set_quotas(self, quota_bytes: int, person_bytes: int | None = None) -> None:
        """Use other quotas of all PCAs, and of one person's, from now on."""
        self._folder.quota_bytes = quota_bytes
        self._limit.most_bytes = person_bytes

    def check_new(self, description: PCADescription, person: Person) -> None:
        """Raise what `keep` would raise for a PCA of the same description, but for the disk."""
        if self.find_existing(description, person) is None:
            self._check_room(person, description.least_bytes)

    def _check_room(self, person: Person, size_bytes: int) -> None:
        self._limit.check(person, size_bytes, self._owned_bytes, field="component_count")

    def records(self, person: Person) -> list[PCARecord]:
        """Return the records of the PCAs that a person owns or may see, oldest first."""
        found = (self._shown(record, person) for record in self._folder.records())
        return [record for record in found if record is not None]

    def find_records(self, wanted: str, person: Person) -> list[PCARecord]:
        """Return the PCAs with a SHA-256 or a person's name, at least one, the oldest first.

        Who sees all may also say another's name. Raises UnknownPCAError, with the same words for
        what the person may not see.
        """
        if is_sha256(wanted):
            record = self._folder.record(wanted)
            shown = None if record is None else self._shown(record, person)
            if shown is not None:
                return [shown]
        records = self.records(person)
        named = [one for one in records if wanted and one.name == wanted]
        own = [one for one in named if one.is_own]
        if own or (named and sees_all(person)):
            return own or named
        if named:
            hint = (
                f"{_join(named[0].owners)} shares a PCA of that name with you: name it by its "
                f"SHA-256, {named[0].sha256}"
            )
        else:
            names = [one.name if one.is_own and one.name else one.sha256 for one in records]
            hint = choices(wanted, dict.fromkeys(names)) or "You have fitted none yet."
        sentence = f"you have no PCA {wanted!r}. {hint}"
        raise UnknownPCAError(sentence, field="reduction.pca", subject=wanted)

    def find(
        self,
        wanted: str,
        facts: FeatureFacts,
        shapes: Mapping[str, tuple[int, ...]],
        person: Person,
    ) -> PCA:
        """Return the PCA with a SHA-256 or a name that fits features of these shapes, by module.

        Of several of a person's own that fit, which servers may have stored at once, the oldest is
        meant, on every server. Raises UnknownPCAError, and PCAMismatchError if it was fitted on
        other features (of several of that name, the error describes the most similar), or if the
        PCAs of several others fit.
        """
        records = self.find_records(wanted, person)
        records.sort(key=lambda record: len(record.description.mismatches(facts, shapes)))
        records[0].check(facts, shapes)
        several = len(records) > 1 and not records[1].description.mismatches(facts, shapes)
        if several and not records[0].is_own:
            raise PCAMismatchError(
                f"{records[0]} of {_join(records[0].owners)} and {records[1]} of "
                f"{_join(records[1].owners)} both fit these features; name one by its SHA-256",
                field="reduction.pca",
                subject=wanted,
            )
        return self._folder.load(records[0])

    def find_existing(self, description: PCADescription, person: Person) -> PCARecord | None:
        """Return the person's PCA of the same name, features, images and components, if any.

        Raises InvalidRequestError if the name is not valid, or if a PCA of the person has the same
        name and features, but other images or components. An empty `images_sha256` is not compared.
        """
        name = description.name
        _check_name(name)
        for record in self.records(person) if name else []:
            stored = record.description
            same_features = not stored.facts.differences(description.facts)
            is_same = record.is_own and record.name == name and same_features
            if not is_same or not _overlap(stored, description):
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
        self,
        description: PCADescription,
        images: str,
        modules: Mapping[str, Axes],
        person: Person,
        *,
        shared: bool = False,
    ) -> PCARecord:
        """Write a PCA for a person and return its record; if the person has it, leave it.

        `images` are the lines whose SHA-256 is `images_sha256`. With `shared`, the person shares
        it. Raises as `find_existing` does, and StorageError if a quota or the disk has no room.
        """
        # One at a time, so that this server exceeds the quota by one file at most.
        with self._keeping:
            stored = self.find_existing(description, person)
            if stored is None:
                arrays = sum(one.mean.nbytes + one.axes.nbytes for one in modules.values())
                self._check_room(person, arrays + len(images.encode()))
                with self._folder.writing(description, images, modules) as (path, record):
                    stored = self._publish(path, record, person, shared=shared)
        if shared and not stored.is_shared:
            self.share(stored.sha256, person, shared=True)
        return self._shown(stored, person) or stored

    def _publish(self, path: Path, record: PCARecord, person: Person, *, shared: bool) -> PCARecord:
        """Give a file its name and its owner, unless another server was quicker with such a PCA."""
        name, folder = record.description.name, self._folder.path
        with alone(folder, name):
            if (stored := self.find_existing(record.description, person)) is not None:
                return stored
            with alone(folder, record.sha256):
                self._owners.add(
                    record.sha256,
                    person,
                    is_stored=self._folder.path_of(record.sha256).exists(),
                    shared=shared or None,
                    facts={_NAME: name},
                )
                stored = self._folder.finish(path, record)
        return self._shown(stored, person) or stored

    def delete(self, wanted: str, person: Person) -> int:
        """Delete a person's PCA by its SHA-256 or its unique name; return the bytes that are free.

        The bytes go with the last owner; an admin deletes it for all owners. Raises
        UnknownPCAError, and PermissionDeniedError for what others share.
        """
        found = self.find_records(wanted, person)
        if len(found) > 1:
            digests = ", ".join(f"{one.sha256} ({one.description.facts.model})" for one in found)
            sentence = (
                f"{len(found)} PCAs are called {wanted!r}; name one by its SHA-256: {digests}"
            )
            raise InvalidRequestError(sentence, field="pca", subject=wanted)
        record = found[0]
        if not record.is_own and not sees_all(person):
            raise PermissionDeniedError(
                f"{record} belongs to {_join(record.owners)}, who shares it with you: only an "
                "owner or an admin can delete it",
                field="pca",
                subject=wanted,
            )
        with alone(self._folder.path, record.sha256):
            if not self._owners.drop(record.sha256, person):
                return 0
            self._folder.path_of(record.sha256).unlink(missing_ok=True)
            self._owners.forget(record.sha256)
        return record.size_bytes

    def share(self, sha256: str, person: Person, *, shared: bool) -> bool:
        """Share a PCA, or stop sharing it; return False if it is not the person's to share."""
        if self._folder.record(sha256) is None:
            return False
        with alone(self._folder.path, sha256):
            return self._owners.share(sha256, person, shared=shared)

    def ownership(self, sha256: str, person: Person) -> list[Ownership]:
        """Return the records of owners that a person may see; empty if there is no such PCA."""
        return self._owners.visible(sha256, person) if self._folder.record(sha256) else []

    def check_gift(self, old: str, new: str) -> None:
        """Raise StorageError if all PCAs of a person exceed what another may have."""
        giver, taker = Person(old, frozenset()), Person(new, frozenset())
        owns = self._owners.of_person
        given = sum(
            size
            for sha256, size in self._folder.sizes()
            if owns(sha256, giver) is not None and owns(sha256, taker) is None
        )
        self._limit.check_gift(old, taker, given, self._owned_bytes)

    def move_owner(self, old: str, new: str) -> int:
        """Give all PCAs of a person to another; return their number.

        A PCA whose name the other has for a PCA of their own gets the old owner's name behind it:
        what a name means does not change.
        """
        giver, taker = Person(old, frozenset()), Person(new, frozenset())
        records = self._folder.records()
        taken = {one.name for record in records if (one := self._owned(record, taker)) is not None}
        count = 0
        for record in records:
            given = self._owned(record, giver)
            if given is None or old == new:
                continue
            name = given.name
            if self._owned(record, taker) is None and name in taken:
                name = _free_name(f"{name} ({old})", taken)
            with alone(self._folder.path, record.sha256):
                if self._owners.move(old, new, [record.sha256]):
                    count += 1
                    if name != given.name:
                        facts = {_NAME: name}
                        self._owners.add(record.sha256, taker, is_stored=True, facts=facts)
            taken.add(name)
        return count

    def _owned_bytes(self, person: Person) -> int:
        """Return the bytes of all PCAs that a person owns."""
        sizes = self._folder.sizes()
        return sum(size for sha256, size in sizes if self._owners.owns(sha256, person))

    def _owned(self, record: PCARecord, person: Person) -> PCARecord | None:
        own = self._owners.of_person(record.sha256, person)
        return None if own is None else _personal(record, [own], person)

    def _shown(self, record: PCARecord, person: Person) -> PCARecord | None:
        """Return a record as a person sees it; None if the person doesn't."""
        rows = self._owners.visible(record.sha256, person)
        return _personal(record, rows, person) if rows else None

    def _delete_unowned(self) -> None:
        """Delete what killed servers were about to delete, which has no owner any more.

        Also the records of owners, a day old, whose PCA was never stored.
        """
        for sha256 in filter(is_sha256, self._owners.recorded()):
            if self._is_whole(sha256):
                continue
            with alone(self._folder.path, sha256):
                if not self._is_whole(sha256):
                    self._folder.path_of(sha256).unlink(missing_ok=True)
                    self._owners.remove(sha256, {row.owner for row in self._owners.of(sha256)})
                    self._owners.forget(sha256)

    def _is_whole(self, sha256: str) -> bool:
        """Return whether a PCA has an owner, and its file is there, or not yet."""
        rows = self._owners.of(sha256)
        is_new = bool(rows) and time.time() - rows[-1].since < _LONE_SECONDS
        return bool(rows) and (is_new or self._folder.path_of(sha256).exists())


def _personal(record: PCARecord, rows: list[Ownership], person: Person) -> PCARecord:
    """Return a record with what a person may know of its owners; the first row has its name."""
    is_own = rows[0].owner == owner_name(person)
    return replace(
        record,
        name=str(rows[0].facts.get(_NAME, record.description.name)),
        owners=tuple(row.owner for row in rows),
        is_own=is_own,
        is_shared=rows[0].is_shared if is_own else any(row.is_shared for row in rows),
    )


def _join(names: tuple[str, ...]) -> str:
    return " and ".join(names)


def _free_name(name: str, taken: set[str]) -> str:
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name} {count}"
    return free


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
