"""Reads and writes the record of an uploaded file: a JSON file of the same name beside it.

A file that was put into the folder by hand has no record; what the file itself shows is used.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import UnknownWeightsError
from ...inputs import Preprocessing
from ..digests import is_sha256
from .formats import format_of


@dataclass(frozen=True)
class UploadRecord:
    """One uploaded file."""

    sha256: str
    size_bytes: int
    format: str
    """A key of FORMATS; empty if a file put there by hand has an unknown format."""
    uploaded_at: float
    """Seconds since 1970, UTC."""
    name: str = ""
    """The user's name for it."""
    preprocessing: Preprocessing | None = None
    """The declared preprocessing; None if none was declared."""

    @property
    def called(self) -> str:
        """Return the user's name for it, or else its digest."""
        return self.name or self.sha256


def find_record(folder: Path, sha256: str) -> UploadRecord | None:
    """Return the record of a file; None if there is no file with that digest."""
    path = folder / sha256
    if not is_sha256(sha256) or not path.is_file():
        return None
    written = _read(_record_path(path))
    preprocessing = written.get("preprocessing")
    status = path.stat()
    return UploadRecord(
        sha256=sha256,
        size_bytes=status.st_size,
        format=written.get("format") or format_of(path),
        uploaded_at=written.get("uploaded_at", status.st_mtime),
        name=written.get("name", ""),
        preprocessing=None if preprocessing is None else _preprocessing(preprocessing),
    )


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
    """Return the records of all files, the oldest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [find_record(folder, name) for name in names]
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: (record.uploaded_at, record.sha256))


def write_record(folder: Path, record: UploadRecord) -> None:
    """Write a record; a reader sees either the old one or the new one."""
    # To a temporary name first: two uploads of the same file may end at the same time.
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="record-", delete=False) as file:
        json.dump(asdict(record), file, indent=1)
    Path(file.name).replace(_record_path(folder / record.sha256))


def delete_record(folder: Path, sha256: str) -> None:
    """Delete the record of a file."""
    _record_path(folder / sha256).unlink(missing_ok=True)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _preprocessing(written: dict[str, Any]) -> Preprocessing:
    known = {field.name for field in fields(Preprocessing)}
    return Preprocessing.from_dict({name: one for name, one in written.items() if name in known})
