"""Chunks into one file, a chunk in memory at a time; knows no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..files import atomic_path, metadata_path
from ..formats import FEATURES, FORMATS, Column, FileFormat
from ..origins import Content
from .chunks import write_beside
from .place import Place
from .record import Record


@dataclass(frozen=True)
class Joining:
    """Joins the chunks of a job. `columns` are those of the rows as written, by module.

    `origin` is what `describe` returns; `heard` gets the number of images that were written.
    """

    record: Record
    place: Place
    columns: Mapping[str, Column]
    origin: Mapping[str, Any]
    heard: Callable[[int], None]

    def into(self, path: Path, modules: Sequence[str], file_format: FileFormat) -> None:
        """Write all chunks of these modules into one file, and beside it where it came from."""
        columns = named([self.columns[module] for module in modules])
        images = list(self.record.images())
        count, names = len(images), [image.name for image in images]
        with (
            atomic_path(path) as unfinished,
            file_format.open_writer(unfinished, columns, count, names=names) as writer,
        ):
            for stop, rows in self._chunks(modules):
                writer.write(rows)
                self.heard(stop)
        arrays = {
            column.name: Content((count, *column.shape), column.dtype, {"module": module})
            for column, module in zip(columns, modules, strict=True)
        }
        write_beside(path, arrays, images, start=0, origin=self.origin)

    def remove_chunks(self) -> None:
        """Remove the files of all chunks, and what lies beside them."""
        for chunk in self.record.chunks:
            for module in self.columns:
                path = self.place.chunk(module, chunk.start, chunk.stop)
                path.unlink(missing_ok=True)
                metadata_path(path).unlink(missing_ok=True)

    def _chunks(self, modules: Sequence[str]) -> Iterator[tuple[int, list[Array]]]:
        read = FORMATS[self.place.file_format].read
        for chunk in self.record.chunks:
            paths = [self.place.chunk(module, chunk.start, chunk.stop) for module in modules]
            yield chunk.stop, [read(path)[FEATURES] for path in paths]


def named(columns: Sequence[Column]) -> list[Column]:
    """Return the columns as a file of them names them: one that is alone is called `features`."""
    if len(columns) > 1:
        return [*columns]
    return [replace(column, name=FEATURES) for column in columns]
