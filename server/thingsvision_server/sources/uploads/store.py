"""Stores files that clients upload, under their SHA-256.

A file gets its final name only after its length, digest and format have been checked. Until then
it is a partial file (`partials.py`), which the next upload of the same sender resumes. Several
people may own a file, who each have sent all its bytes, or had it shared with them; the last takes
the bytes along. All methods speak for whoever makes the call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from ...access.owners import OPERATOR, Owners, Ownership, owner_name
from ...access.person import Person, viewer
from ...access.storage_limit import StorageLimit
from ...errors import (
    InvalidRequestError,
    ThingsvisionError,
    UnavailableError,
)
from ...shared_folder.claims import Claims, is_there, remove_doomed
from ...shared_folder.unfinished import remove_unfinished
from ...shortages import shortage_behind
from ..digests import is_sha256
from ..preprocessing.declaration import check_declaration, check_same_declaration
from .formats import FORMATS
from .partials import PartialFiles
from .person_room import PersonRoom
from .records import (
    OWNERS,
    UploadRecord,
    declared_facts,
    find_record,
    list_records,
    remove_lone_records,
    write_record,
)
from .removal import Removal
from .room import Room
from .upload import Announcement, FileChecks, Upload


class UploadStore:
    """The folder of uploaded files; several servers may share it."""

    kind = "upload"

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        quota_bytes: int,
        checks: FileChecks | None = None,
        claims: Claims | None = None,
        *,
        person_bytes: int | None = None,
    ) -> None:
        self._folder = folder
        self._limit = StorageLimit(
            "uploads",
            "--person-upload-quota",
            "Delete some (`uploads` lists them, `delete-upload` deletes one)",
            person_bytes,
        )
        self._checks = checks or FileChecks()
        self._max_bytes = max_bytes
        self._claims = claims or Claims(folder)
        hearts = self._claims.heartbeats
        self._owners = Owners(
            folder / OWNERS, self._claims, is_there=lambda sha256: is_there(folder / sha256)
        )
        self._removal = Removal(folder, self._claims, self._owners, self._checks)
        self._partials = PartialFiles(folder, hearts)
        self._room = Room(folder, quota_bytes, self._partials)
        self._clean_up()
        hearts.after_death(lambda _server: self._remove_unfinished())

    def _clean_up(self) -> None:
        """Remove what servers left that ended in the middle of something."""
        self._partials.remove_old()
        remove_doomed(self._folder)
        self._remove_unfinished()
        self._removal.remove_unowned()
        remove_lone_records(self._folder)

    def set_limits(self, max_bytes: int, quota_bytes: int, person_bytes: int | None = None) -> None:
        """Use another maximum size of a file, and other quotas of all and of one person."""
        self._max_bytes = max_bytes
        self._limit.most_bytes = person_bytes
        self._room.set_quota(quota_bytes)

    def records(self) -> list[UploadRecord]:
        """Return the records of all files, the oldest first."""
        return list_records(self._folder)

    def find(self, announced: Announcement) -> UploadRecord | None:
        """Return the record of an announced file; None if it has to be sent.

        Of what was only shared with the caller, makes the caller an owner. Adds a preprocessing
        that the record does not have yet. Raises InvalidRequestError if the digest is invalid, or
        if the caller declared the file with another preprocessing, StorageError if what is shared
        does not fit in what the caller may own.
        """
        if not is_sha256(announced.sha256):
            sentence = f"`sha256` must be 64 lower-case hex digits, got {announced.sha256!r}"
            raise InvalidRequestError(sentence, field="sha256", subject=announced.sha256)
        record = find_record(self._folder, announced.sha256)
        if record is None:
            return None
        declared = announced.preprocessing
        if declared is not None and record.is_own and record.preprocessing is not None:
            check_same_declaration(record.called, record.preprocessing, declared)
        elif declared is not None:
            is_model = record.format in FORMATS and FORMATS[record.format].is_model
            check_declaration(declared, is_model=is_model)
        is_news = declared is not None and record.preprocessing is None
        if record.is_own and not is_news and announced.is_shared <= record.is_shared:
            return record
        name = (announced.name or record.name) if is_news or not record.is_own else record.name
        changed = replace(record, name=name, preprocessing=declared or record.preprocessing)
        person = viewer()
        if not record.is_own:
            self._limit.check(person, record.size_bytes, self._owned_bytes, field="size_bytes")
        self._own(changed, person, is_shared=announced.is_shared, is_stored=True)
        if not is_there(self._folder / record.sha256):  # deleted meanwhile: nobody owns it now
            self._owners.remove(record.sha256, {OPERATOR, owner_name(person)})
            return None
        return find_record(self._folder, announced.sha256)

    def _own(
        self, record: UploadRecord, person: Person, *, is_shared: bool, is_stored: bool
    ) -> None:
        """Make a person an owner of a file."""
        self._owners.add(
            record.sha256,
            person,
            is_stored=is_stored,
            shared=is_shared or None,
            facts=declared_facts(record.name, record.preprocessing),
        )

    @contextmanager
    def begin(self, announced: Announcement) -> Iterator[Upload]:
        """Open a file for an upload; an interrupted upload leaves the bytes that arrived.

        Lack of room is an interruption, too; an upload that fails with any other error of ours
        leaves nothing. Raises InvalidRequestError if the size is out of range, StorageError if it
        exceeds the quota, or what the caller may own.
        """
        size = announced.size_bytes
        if not 0 < size <= self._max_bytes:
            sentence = f"`size_bytes` must be 1 to {self._max_bytes:,} on this server, got {size:,}"
            raise InvalidRequestError(sentence, field="size_bytes")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._checks.prepare()
        self._partials.remove_old()
        place = self._partials.place(announced.sha256, size, announced.sender)
        file = self._partials.open(place, size)
        path, kept_bytes = Path(file.name), os.fstat(file.fileno()).st_size
        upload = self._make_upload(announced, file, place)
        is_interrupted = True
        try:
            upload.check_room(size - kept_bytes)
            yield upload
            is_interrupted = False
        except UnavailableError:  # the client fell silent, or the server stops
            raise
        except ThingsvisionError as error:
            is_interrupted = upload.ended_early or isinstance(
                shortage_behind(error), UnavailableError
            )
            raise
        finally:
            has_bytes = os.fstat(file.fileno()).st_size > 0
            upload.close()
            if is_interrupted and has_bytes:
                self._partials.put_back(path, place)
            else:
                path.unlink(missing_ok=True)

    def _make_upload(self, announced: Announcement, file: IO[bytes], place: Path) -> Upload:
        person = viewer()  # whichever thread checks and stores the file

        def keep(complete: Path, record: UploadRecord) -> UploadRecord:
            return self._keep(complete, record, person, is_shared=announced.is_shared)

        own_room = PersonRoom(
            person,
            self._limit,
            announced.size_bytes,
            owned_bytes=self._owned_bytes,
            partials=self._partials,
            place=place,
            path=Path(file.name),
            sender=announced.sender,
        )
        return Upload(
            announced, file, self._room, keep=keep, own_room=own_room, checks=self._checks
        )

    def _keep(
        self, complete: Path, record: UploadRecord, person: Person, *, is_shared: bool
    ) -> UploadRecord:
        """Store a complete file with a person as an owner, and return the person's record.

        The owner comes first: who deletes the file for its last owner renames it, then looks for
        owners. So that one either sees this owner, or has renamed another file than this one.

        A file that is there stays: processes that run it may read that file alone, not another of
        the same name.
        """
        target = self._folder / record.sha256
        self._own(record, person, is_shared=is_shared, is_stored=is_there(target))
        _put(complete, target)
        if self._owners.of_person(record.sha256, person) is None:  # an admin deleted it for all
            self._own(record, person, is_shared=is_shared, is_stored=is_there(target))
            if complete.exists():
                _put(complete, target)
        write_record(self._folder, record, self._claims.server)
        return find_record(self._folder, record.sha256) or record

    def delete(self, sha256: str, models: Sequence[str] = ()) -> int:
        """Take a file from the caller, and delete it if nobody else owns it; return freed bytes.

        `models` are this server's models that use it. Raises as `Removal.delete` does.
        """
        return self._removal.delete(sha256, models)

    def share(self, sha256: str, person: Person, *, shared: bool) -> bool:
        """Share a person's file, or stop sharing it; return False if it is not the person's."""
        if not is_sha256(sha256) or not is_there(self._folder / sha256):
            return False
        return self._owners.share(sha256, person, shared=shared)

    def may_see(self, sha256: str) -> bool:
        """Return whether a file is the caller's or shared with the caller, there or not."""
        return self._owners.may_see(sha256, viewer())

    def ownership(self, sha256: str, person: Person) -> list[Ownership]:
        """Return the records of owners that a person may see; empty if there is no such file."""
        is_stored = is_sha256(sha256) and is_there(self._folder / sha256)
        return self._owners.visible(sha256, person) if is_stored else []

    def check_gift(self, old: str, new: str) -> None:
        """Raise StorageError if all files of a person exceed what another may have."""
        giver, taker = Person(old, frozenset()), Person(new, frozenset())
        owns, given = self._owners.of_person, 0
        for sha256 in self._stored() if old != new else ():
            if owns(sha256, giver) is not None and owns(sha256, taker) is None:
                with suppress(FileNotFoundError):  # it is being deleted
                    given += (self._folder / sha256).stat().st_size
        self._limit.check_gift(old, taker, given, self._owned_bytes)

    def move_owner(self, old: str, new: str) -> int:
        """Give one person's files to another; return how many changed hands."""
        return self._owners.move(old, new, self._stored())

    def _stored(self) -> list[str]:
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        return sorted(filter(is_sha256, names))

    def _owned_bytes(self, person: Person) -> int:
        """Return the bytes of all complete files that a person owns."""
        total = 0
        for sha256 in self._stored():
            with suppress(FileNotFoundError):  # it is being deleted
                if self._owners.owns(sha256, person):
                    total += (self._folder / sha256).stat().st_size
        return total

    def _remove_unfinished(self) -> None:
        remove_unfinished(self._folder, self._claims.heartbeats)


def _put(complete: Path, target: Path) -> None:
    """Give a complete file its name, unless a file of its bytes has that name."""
    size_bytes = complete.stat().st_size
    with suppress(FileNotFoundError):  # deleted meanwhile
        if is_there(target) and target.stat().st_size == size_bytes:
            return
    complete.rename(target)
