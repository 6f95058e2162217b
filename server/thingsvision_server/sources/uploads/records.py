"""Reads and writes the records of uploaded files: what a file is, and what its owners say of it.

What the file is, stands in a JSON file of the same name beside it. Whose it is, and its name and
declared preprocessing, are in the records of its owners (`access/owners.py`): each person means
their own. All functions speak for whoever makes the call: what is neither that person's nor shared
with that person is as if it were not there.

A file that was put into the folder by hand has no record; what the file itself shows is used. So it
is for a file whose record is damaged. A file of another size than its record says is not there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...access.owners import BEFORE, OPERATOR, Owners, Ownership, owner_name
from ...access.person import Person, viewer
from ...errors import UnknownWeightsError
from ...inputs import Preprocessing
from ...shared_folder.claims import is_there, wait_as_if_missing
from ...shared_folder.unfinished import write_file
from ..digests import is_sha256
from .damage import set_aside
from .formats import format_of

OWNERS = "owners"
"""The folder of the owners' records, in the folder of uploads."""

_LONE_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class UploadRecord:
    """One uploaded file, as a person may know it."""

    sha256: str
    size_bytes: int
    format: str
    """A key of FORMATS; empty if a file put there by hand has an unknown format."""
    uploaded_at: float
    """Seconds since 1970, UTC: for an owner, when it became the owner's."""
    name: str = ""
    """The owner's name for it."""
    preprocessing: Preprocessing | None = None
    """The declared preprocessing; None if none was declared."""
    owners: tuple[str, ...] = ()
    """The person, if it is the person's, and who shares it with the person; for an admin, all."""
    is_own: bool = True
    """Whether it is the person's."""
    is_shared: bool = False
    """Whether the person shares it; if it is not the person's, whether anybody does."""
    is_ambiguous: bool = False
    """Whether it is not the person's, and its owners declare different preprocessing."""

    @property
    def called(self) -> str:
        """Return the user's name for it, or else its digest."""
        return self.name or self.sha256


@dataclass(frozen=True)
class _Declared:
    """What an owner says of a file."""

    name: str = ""
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class _Written(_Declared):
    """What the record of a file says; earlier versions wrote other fields."""

    size_bytes: int | None = None
    format: str = ""
    uploaded_at: float | None = None


_WRITTEN = TypeAdapter(_Written)
_DECLARED = TypeAdapter(_Declared)


def find_record(folder: Path, sha256: str) -> UploadRecord | None:
    """Return the record of a file as whoever makes the call may know it.

    None if there is no file with that digest, or a damaged one, or another's.
    """
    path, person = folder / sha256, viewer()
    if not is_sha256(sha256) or not is_there(path):
        return None
    owners = Owners(folder / OWNERS)
    rows = owners.visible(sha256, person)
    try:
        status = path.stat()
        if BEFORE in rows:  # or it was deleted, and stored anew by another
            rows = owners.visible(sha256, person)
        if not rows:
            wait_as_if_missing()
            return None
        if not S_ISREG(status.st_mode):
            return None
        written = _read(path)
        if written.size_bytes not in (None, status.st_size):
            set_aside(path, f"it has {status.st_size:,} of {written.size_bytes:,} bytes")
            return None
        stored_at = status.st_mtime if written.uploaded_at is None else written.uploaded_at
        known = UploadRecord(
            sha256=sha256,
            size_bytes=status.st_size,
            format=written.format or format_of(path),
            uploaded_at=rows[0].since or stored_at,
        )
    except FileNotFoundError:  # deleted meanwhile
        return None
    return _as_known(known, written, rows, person)


def _as_known(
    known: UploadRecord, written: _Written, rows: Sequence[Ownership], person: Person
) -> UploadRecord:
    """Return a record with what a person may know of its owners."""
    is_own = rows[0].owner == owner_name(person)
    said = [_declared(row, written) for row in rows]
    meant = said[:1] if is_own else said
    is_ambiguous = any(one.preprocessing != meant[0].preprocessing for one in meant)
    return UploadRecord(
        **vars(known)
        | {
            "name": meant[0].name,
            "preprocessing": None if is_ambiguous else meant[0].preprocessing,
            "owners": tuple(row.owner for row in rows),
            "is_own": is_own,
            "is_shared": any(row.is_shared for row in (rows[:1] if is_own else rows)),
            "is_ambiguous": is_ambiguous,
        }
    )


def _declared(row: Ownership, written: _Written) -> _Declared:
    if row.owner == OPERATOR and not row.facts:  # from before there were owners
        return _Declared(written.name, written.preprocessing)
    try:
        return _DECLARED.validate_python(dict(row.facts))
    except ValidationError:
        return _Declared()


def declared_facts(name: str, preprocessing: Preprocessing | None) -> Mapping[str, Any]:
    """Return what an owner says of a file, for the owner's record."""
    return asdict(_Declared(name, preprocessing))


def read_record(folder: Path, sha256: str, *, field: str) -> UploadRecord:
    """Return the record of a file; raise UnknownWeightsError if there is no such file."""
    record = find_record(folder, sha256)
    if record is None:
        sentence = (
            f"no uploaded file has the SHA-256 {sha256!r}; upload the file, or list the uploads"
        )
        raise UnknownWeightsError(sentence, field=field, subject=sha256)
    return record


def list_records(folder: Path) -> list[UploadRecord]:
    """Return the records of all files that whoever makes the call may know, the oldest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [find_record(folder, name) for name in names]
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: (record.uploaded_at, record.sha256))


def write_record(folder: Path, record: UploadRecord, server: str) -> None:
    """Write what a file is; a reader sees either the old record or the new one."""
    facts = {name: getattr(record, name) for name in ("sha256", "size_bytes", "format")}
    content = json.dumps(facts | {"uploaded_at": record.uploaded_at}, indent=1).encode()
    write_file(_record_path(folder / record.sha256), content, server)


def delete_record(folder: Path, sha256: str) -> None:
    """Delete the record of a file."""
    _record_path(folder / sha256).unlink(missing_ok=True)


def remove_lone_records(folder: Path) -> None:
    """Delete records a day old without a file: a server was killed between the two."""
    for record_path in folder.glob("*.json"):
        with suppress(FileNotFoundError):
            age_seconds = time.time() - record_path.stat().st_mtime
            is_alone = is_sha256(record_path.stem) and not record_path.with_suffix("").exists()
            if is_alone and age_seconds > _LONE_SECONDS:
                record_path.unlink()


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read(path: Path) -> _Written:
    """Return what a file's record says; nothing if it has none, or if the record is damaged."""
    record_path = _record_path(path)
    try:
        return _WRITTEN.validate_json(record_path.read_bytes())
    except FileNotFoundError:
        return _Written()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        set_aside(record_path, f"it can't be read: {place}: {first['msg']}".replace(": : ", ": "))
        return _Written()
