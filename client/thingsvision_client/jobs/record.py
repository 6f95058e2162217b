"""The record of a job's complete chunks: a file that grows by a line per chunk.

Its first line says what is extracted; each further line is about a chunk whose files all exist.
A line that a crash cut off counts as never written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BadImage, InvalidRequestError
from ..files import atomic_file
from ..origins import Fingerprint
from ..values.cores import Cores
from ..values.servers import ServerFacts
from .splits import read_servers, read_splits, write_servers, write_splits

FORMAT = 1


@dataclass(frozen=True)
class Chunk:
    """Images [start, stop) of a job, and the length of the file of each module, bytes.

    `row_count` is the number of images that have a row.
    """

    start: int
    stop: int
    sizes: Mapping[str, int]
    row_count: int


def batch_size_of(facts: Mapping[str, Any]) -> int:
    """Return the images of a batch, from what the server reported; 1 where it chose them."""
    return max(1, int(facts["server_batch_size"]))


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
    def batch_size(self) -> int:
        """Return the images of a batch; 1 where the server chose them, whose number isn't known."""
        return batch_size_of(self.facts)

    @property
    def chunk_image_count(self) -> int:
        """Return the images of a chunk; the last may have fewer."""
        return int(self.settings["step_size"]) * self.batch_size

    @property
    def done(self) -> int:
        """Return the number of complete images, which are the first ones."""
        return self.chunks[-1].stop if self.chunks else 0

    @property
    def cores(self) -> Cores:
        """Return the cores of passes; a lane's if the job began before servers told them."""
        return Cores.from_facts(self.facts)

    @property
    def computed_by(self) -> ServerFacts:
        """Return the server that the job began on, as far as the record tells."""
        return ServerFacts.of_record(self.facts)

    def save(self) -> None:
        """Write the record of a new job."""
        self._write([])

    def add(self, chunk: Chunk, images: Sequence[Fingerprint]) -> None:
        """Record that the files of the next chunk exist."""
        self._append(_entry(chunk, images))
        self.chunks.append(chunk)

    def replace(self, number: int, chunk: Chunk, images: Sequence[Fingerprint]) -> None:
        """Record that a complete chunk has other rows now; a file of all chunks is forgotten."""
        lines = self._lines(len(self.chunks))
        lines[number] = _line(_entry(chunk, images))
        self.whole = None
        self._write([*lines, *([_line({"ended": True})] if self.ended else [])])
        self.chunks[number] = chunk

    def forget_whole(self) -> None:
        """Record that the files of all chunks are there again."""
        self.whole = None
        self._write([*self._lines(len(self.chunks)), _line({"ended": True})])

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
        self._write(self._lines(count))
        del self.chunks[count:]
        self.ended, self.whole = False, None

    def _lines(self, count: int) -> list[bytes]:
        with self.path.open("rb") as file:
            return [next(file) for _ in range(1 + count)][1:]

    def images(self) -> Iterator[Fingerprint]:
        """Yield the fingerprints of the images of complete chunks, in flat memory."""
        with self.path.open("rb") as file:
            next(file)
            for _, line in zip(self.chunks, file, strict=False):
                yield from _read_images(json.loads(line))

    def skipped(self) -> list[BadImage]:
        """Return the images of complete chunks that have no row."""
        if all(chunk.row_count == chunk.stop - chunk.start for chunk in self.chunks):
            return []
        places = enumerate(self.images())
        return [BadImage(place, one.name, one.fault) for place, one in places if one.fault]

    def take(self, line: bytes) -> bool:
        """Apply a further line; return False if it was not written completely."""
        try:
            entry = json.loads(line)
        except ValueError:
            return False
        if "chunk" in entry:
            start, stop = entry["chunk"]
            rows = sum(not _read_image(image).fault for image in entry["images"])
            self.chunks.append(Chunk(start, stop, entry["sizes"], rows))
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


def _entry(chunk: Chunk, images: Sequence[Fingerprint]) -> dict[str, Any]:
    prints = [[one.name, one.sha256, *([one.fault] if one.fault else [])] for one in images]
    told = {"chunk": [chunk.start, chunk.stop], "sizes": chunk.sizes, "images": prints}
    return told | write_splits(images) | write_servers(images)


def _read_images(entry: dict[str, Any]) -> Iterator[Fingerprint]:
    count = len(entry["images"])
    rows = zip(entry["images"], read_splits(entry, count), read_servers(entry, count), strict=True)
    for image, size, server in rows:
        yield replace(_read_image(image), pass_size=size, server=server)


def _read_image(image: list[str]) -> Fingerprint:
    """Return an entry of a chunk: name, SHA-256, and what is wrong if the image has no row."""
    name, sha256, *fault = image
    return Fingerprint(name, sha256, fault="".join(fault))


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
