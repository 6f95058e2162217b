"""Records who owns what is stored under a digest, and with whom its owners share it.

A folder of records stands beside what is stored, and several servers may share it:

    {digest}/{SHA-256 of the owner's name}.json    a file for each owner
    {digest}/kept                                  alone: nobody's, deleted or about to be

What has no folder was stored by an earlier version: it is the operator's, and shared. Each file is
replaced at once and has one writer's facts, so no server waits for another and none needs a lock.
Who stores something records its owner first; who deletes something removes the owner's record first
(so that a server killed in between leaves what nobody sees, not what everybody sees).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..shared_folder.claims import Claims
from ..shared_folder.unfinished import finish, remove_unfinished, unfinished_file, unfinished_folder
from .person import Person
from .scopes import Scope

OPERATOR = "admin"
"""Owns what was stored before there were owners, and what people without a name store."""

EVERYBODY = "*"
"""Whom something is shared with: all whom the server lets in."""

_SUFFIX = ".json"
_KEY_CHARACTERS = 32

_KEPT = "kept"
"""A file in each folder, so that the folder is never empty."""

_KEPT_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Ownership:
    """What one owner has to do with something that is stored.

    Attributes:
        owner: The owner's name.
        shared_with: Empty for nobody, `EVERYBODY`, or `@group`, several separated by commas.
        since: When it became the owner's: seconds since 1970, UTC.
        facts: What the owner declared about it, such as a name: JSON values.

    """

    owner: str
    shared_with: str = ""
    since: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Return whether the owner shares it with anybody."""
        return bool(self.shared_with)

    def reaches(self, person: Person) -> bool:
        """Return whether the owner shares it with a person."""
        return is_shared_with(self.shared_with, person)


BEFORE = Ownership(OPERATOR, EVERYBODY)
"""Whose something is that was stored before there were owners."""

_WRITTEN = TypeAdapter(Ownership)


def owner_name(person: Person) -> str:
    """Return who owns what a person stores: on a server without tokens the operator."""
    return person.name if person.is_named else OPERATOR


def is_shared_with(shared_with: str, person: Person) -> bool:
    """Return whether what is shared with `shared_with` is shared with a person."""
    return shared_with == EVERYBODY or f"@{person.group}" in _groups(shared_with)


def _groups(shared_with: str) -> list[str]:
    """Return the groups that something is shared with, each with its `@`."""
    return [one for one in shared_with.split(",") if len(one) > 1]


def _join(one: str, other: str) -> str:
    """Return whom something is shared with that two owners shared with these."""
    if EVERYBODY in (one, other):
        return EVERYBODY
    return ",".join(sorted({*_groups(one), *_groups(other)}))


def sees_all(person: Person) -> bool:
    """Return whether a person sees, and may delete, what others own."""
    return Scope.ADMIN in person.scopes


def audience(person: Person) -> str:
    """Return whom a person shares with: the person's group, or everybody without a group."""
    return f"@{person.group}" if person.group else EVERYBODY


class Owners:
    """The owners of what is stored under digests. All methods may block; threads may share it.

    Args:
        folder: Where the records are; made when the first is written.
        claims: Of the server that writes; what dead servers left unfinished is removed. Without,
            the records are only read, or by one process.
        is_there: Whether something is stored under a digest now. With it, servers that store and
            delete the same thing at once never take it for a thing of before.
        is_durable: Whether a record must be on the disk before what it is about, also if the
            machine loses its power.

    """

    def __init__(
        self,
        folder: Path,
        claims: Claims | None = None,
        *,
        is_there: Callable[[str], bool] | None = None,
        is_durable: bool = True,
    ) -> None:
        self._folder = folder
        self._is_there = is_there
        self._server = "" if claims is None else claims.server
        self._is_durable = is_durable
        if claims is not None:
            hearts = claims.heartbeats
            remove_unfinished(folder, hearts)
            hearts.after_death(lambda _server: remove_unfinished(folder, hearts))

    def of(self, digest: str) -> list[Ownership]:
        """Return who owns what is stored under a digest, the first owner first."""
        paths = self._records(digest)
        if paths is None:
            return [BEFORE]
        rows = [row for row in map(_read, paths) if row is not None]
        return sorted(rows, key=lambda row: (row.since, row.owner))

    def of_person(self, digest: str, person: Person) -> Ownership | None:
        """Return a person's own record; None if the person doesn't own what is there."""
        owner = owner_name(person)
        if (row := _read(self._path(digest, owner))) is not None:
            return row if row.owner == owner else Ownership(owner)
        return BEFORE if owner == OPERATOR and not (self._folder / digest).exists() else None

    def owns(self, digest: str, person: Person) -> bool:
        """Return whether a person has a record, at the cost of one look at the disk."""
        return self._path(digest, owner_name(person)).exists()

    def visible(self, digest: str, person: Person) -> list[Ownership]:
        """Return the records that a person may see, the most relevant first; empty for none.

        The person's own comes first: a request of the person means it, and no other. Then come
        those that are shared with the person, and, for an admin, all others.
        """
        own = self.of_person(digest, person)
        others = [
            row
            for row in self.of(digest)
            if (own is None or row.owner != own.owner) and (sees_all(person) or row.reaches(person))
        ]
        shared = sorted(others, key=lambda row: not row.reaches(person))
        return shared if own is None else [own, *shared]

    def may_see(self, digest: str, person: Person) -> bool:
        """Return whether a person owns what is there, is shared with, or sees all."""
        return bool(self.visible(digest, person))

    def add(
        self,
        digest: str,
        person: Person,
        *,
        is_stored: bool,
        shared: bool | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Ownership:
        """Record that a person owns what is, or is about to be, stored under a digest.

        `is_stored` says whether it is there already. None for `shared` and `facts` leaves them as
        the person's record has them; what a person without a name stores is shared.
        """
        before = self.of_person(digest, person) if is_stored else None
        before = before or _read(self._path(digest, owner_name(person)))
        with_whom = before.shared_with if before else "" if person.is_named else EVERYBODY
        if shared is not None:
            with_whom = audience(person) if shared else ""
        row = Ownership(
            owner_name(person),
            with_whom,
            (before and before.since) or time.time(),
            facts if facts is not None else before.facts if before else {},
        )
        self._write(digest, row, is_stored=is_stored)
        return row

    def share(self, digest: str, person: Person, *, shared: bool) -> bool:
        """Share what a person owns with the person's group or everybody, or stop sharing it.

        An admin who doesn't own it changes it for its owners, with everybody. Returns False if it
        is not the person's to share.
        """
        own = self.of_person(digest, person)
        rows = [own] if own is not None else self.of(digest) if sees_all(person) else []
        with_whom = (audience(person) if own is not None else EVERYBODY) if shared else ""
        for row in rows:
            changed = Ownership(row.owner, with_whom, row.since, row.facts)
            self._write(digest, changed, is_stored=True)
        return bool(rows)

    def drop(self, digest: str, person: Person) -> bool:
        """Remove a person's record, or all of them for an admin; return whether nobody is left.

        If nobody is, delete what is stored unless somebody was added meanwhile, then call `forget`.
        """
        if sees_all(person):
            self._make_place(self._folder / digest, is_stored=True)
        return self.remove(digest, [row.owner for row in self.leaving(digest, person)])

    def leaving(self, digest: str, person: Person) -> list[Ownership]:
        """Return the records that a deletion by a person removes: the person's, or an admin's all.

        Empty if it is not the person's to delete.
        """
        own = self.of_person(digest, person)
        return self.of(digest) if sees_all(person) else [] if own is None else [own]

    def remove(self, digest: str, owners: Collection[str]) -> bool:
        """Remove the records of some owners; return whether nobody is left."""
        for path in self._records(digest) or ():
            row = _read(path)
            if row is not None and (row.owner in owners or path in self._paths(digest, owners)):
                path.unlink(missing_ok=True)
        return not self.of(digest)

    def forget(self, digest: str) -> None:
        """Remove the folder of what was deleted a day ago, unless it has an owner again.

        Until then it says that what is stored anew is not of before.
        """
        kept = self._folder / digest / _KEPT
        with suppress(OSError):
            if not self.of(digest) and time.time() - kept.parent.stat().st_mtime > _KEPT_SECONDS:
                kept.unlink(missing_ok=True)
                kept.parent.rmdir()

    def move(self, old: str, new: str, digests: Iterable[str]) -> int:
        """Give what one person owns to another; return how many of these digests changed hands.

        Where both own it, the new owner's facts stay, and who it was shared with still sees it.
        """
        count = 0
        for digest in digests if old != new else ():
            rows = {row.owner: row for row in self.of(digest)}
            if (given := rows.get(old)) is None:
                continue
            kept = rows.get(new, given)
            shared_with = _join(kept.shared_with, given.shared_with)
            self._write(digest, Ownership(new, shared_with, kept.since, kept.facts), is_stored=True)
            self._path(digest, old).unlink(missing_ok=True)
            count += 1
        return count

    def recorded(self) -> list[str]:
        """Return all digests with a folder, also those whose things are not there (any more)."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(path.name for path in found if not path.name.startswith("."))

    def _records(self, digest: str) -> list[Path] | None:
        """Return the files of the records; None if there has never been one."""
        try:
            return [path for path in (self._folder / digest).iterdir() if path.suffix == _SUFFIX]
        except FileNotFoundError:
            return None

    def _paths(self, digest: str, owners: Collection[str]) -> set[Path]:
        return {self._path(digest, owner) for owner in owners}

    def _path(self, digest: str, owner: str) -> Path:
        key = hashlib.sha256(owner.encode()).hexdigest()[:_KEY_CHARACTERS]
        return self._folder / digest / f"{key}{_SUFFIX}"

    def _write(self, digest: str, row: Ownership, *, is_stored: bool) -> None:
        content = _WRITTEN.dump_json(row)
        path = self._path(digest, row.owner)
        while True:
            self._make_place(path.parent, is_stored=is_stored)
            with suppress(FileNotFoundError), unfinished_file(self._folder, self._server) as file:
                file.write(content)
                self._sync(file.fileno())
                finish(file, path)  # another server may have forgotten the folder meanwhile
                self._sync_folder(path.parent)
                return

    def _make_place(self, place: Path, *, is_stored: bool) -> None:
        if place.is_dir():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # At once, and never empty: so of several servers one makes it, and it is made once. What is
        # there before it is made was stored before there were owners.
        with unfinished_folder(self._folder, self._server) as made:
            (made / _KEPT).touch()
            if is_stored if self._is_there is None else self._is_there(place.name):
                before = made / self._path(place.name, OPERATOR).name
                before.write_bytes(_WRITTEN.dump_json(BEFORE))
            made.chmod(self._folder.stat().st_mode & 0o7777)
            with suppress(OSError):  # another server was quicker
                made.rename(place)
        self._sync_folder(self._folder)

    def _sync(self, number: int) -> None:
        if self._is_durable:
            os.fsync(number)

    def _sync_folder(self, folder: Path) -> None:
        if self._is_durable:
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(number)
            finally:
                os.close(number)


def _read(path: Path) -> Ownership | None:
    """Return a record; None if there is none. A damaged record is somebody's, and not shared."""
    try:
        return _WRITTEN.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return Ownership(f"(a damaged record: {path.stem})")
