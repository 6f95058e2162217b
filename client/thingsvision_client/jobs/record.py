"""The record of a job's complete chunks: a file that grows by a line per chunk.

Its first line says what is extracted; each further line is about a chunk whose files all exist.
A line that a crash cut off counts as never written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError
from ..files import atomic_file
from ..origins import Fingerprint

FORMAT = 1


@dataclass(frozen=True)
class Chunk:
    """Images [start, stop) of a job, and the length of the file of each module, bytes."""

    start: int
    stop: int
    sizes: Mapping[str, int]


@dataclass
class Record:
    """The record of a job. `settings` is what its call chose, `facts` what the server reported.

    `names` are the names of all images, if they were known in advance. `ended` says that no chunk
    follows; `whole` has the length of each module's file that replaced the chunks, if any.
    """

    path: Path
    settings: dict[str, Any]
    facts: dict[str, Any]
    names: list[str] | None
    chunks: list[Chunk] = field(default_factory=list)
    ended: bool = False
    whole: dict[str, int] | None = None
    byte_count: int = 0

    @property
    def done(self) -> int:
        """Return the number of complete images, which are the first ones."""
        return self.chunks[-1].stop if self.chunks else 0

    def save(self) -> None:
        """Write the record of a new job."""
        self._write([])

    def add(self, chunk: Chunk, images: Sequence[Fingerprint]) -> None:
        """Record that the files of the next chunk exist."""
        prints = [[image.name, image.sha256] for image in images]
        self._append({"chunk": [chunk.start, chunk.stop], "sizes": chunk.sizes, "images": prints})
        self.chunks.append(chunk)

    def end(self) -> None:
        """Record that no chunk follows."""
        self._append({"ended": True})
        self.ended = True

    def join(self, sizes: dict[str, int]) -> None:
        """Record that one file of each module holds all chunks."""
        self._append({"whole": sizes})
        self.whole = sizes

    def keep(self, count: int) -> None:
        """Forget all chunks but the first `count`."""
        with self.path.open("rb") as file:
            kept = [next(file) for _ in range(1 + count)][1:]
        self._write(kept)
        del self.chunks[count:]
        self.ended, self.whole = False, None

    def images(self) -> Iterator[Fingerprint]:
        """Yield the fingerprints of the images of complete chunks, in flat memory."""
        with self.path.open("rb") as file:
            next(file)
            for _, line in zip(self.chunks, file, strict=False):
                yield from (Fingerprint(*image) for image in json.loads(line)["images"])

    def take(self, line: bytes) -> bool:
        """Apply a further line; return False if it was not written completely."""
        try:
            entry = json.loads(line)
        except ValueError:
            return False
        if "chunk" in entry:
            start, stop = entry["chunk"]
            self.chunks.append(Chunk(start, stop, entry["sizes"]))
        self.ended = self.ended or "ended" in entry
        self.whole = entry.get("whole", self.whole)
        self.byte_count += len(line)
        return True

    def _write(self, lines: list[bytes]) -> None:
        head = {"format": FORMAT, "settings": self.settings, "facts": self.facts}
        content = b"".join([_line({**head, "names": self.names}), *lines])
        with atomic_file(self.path) as file:
            file.write(content)
        self.byte_count = len(content)

    def _append(self, entry: dict[str, Any]) -> None:
        line = _line(entry)
        with self.path.open("r+b") as file:
            file.seek(self.byte_count)
            file.truncate()  # a line that was cut off
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.byte_count += len(line)


def read_record(path: Path) -> Record | None:
    """Return the record in a file, or None if there is none. Raises InvalidRequestError."""
    try:
        with path.open("rb") as file:
            head = _head(file.readline(), path)
            record = Record(path, head["settings"], head["facts"], head["names"])
            record.byte_count = file.tell()
            for line in file:
                if not line.endswith(b"\n") or not record.take(line):
                    break
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequestError(f"Can't read {path}: {error}") from error
    return record


def _head(line: bytes, path: Path) -> dict[str, Any]:
    try:
        head: Any = json.loads(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InvalidRequestError(f"{path} is not a record of an extraction (format {FORMAT}).")
    return head


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
