"""Joins chunks into one file, with one chunk in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..files import atomic_path, metadata_path
from ..formats import FEATURES, FORMATS, Column, FileFormat
from ..origins import Content
from .chunks import write_metadata
from .place import Place
from .record import Record


@dataclass(frozen=True)
class ChunkJoiner:
    """Joins the chunks of a job. `columns` describe the rows as written, by module.

    `origin` is what `describe` returns; `on_progress` is called with the number of images written.
    """

    record: Record
    place: Place
    columns: Mapping[str, Column]
    origin: Mapping[str, Any]
    on_progress: Callable[[int], None]

    def into(self, path: Path, modules: Sequence[str], file_format: FileFormat) -> None:
        """Write all chunks of these modules into one file, with its metadata."""
        columns = file_columns([self.columns[module] for module in modules])
        images = list(self.record.images())
        names = [image.name for image in images if not image.fault]
        count = len(names)
        with (
            atomic_path(path) as unfinished,
            file_format.open_writer(unfinished, columns, count, names=names) as writer,
        ):
            for stop, rows in self._chunks(modules):
                writer.write(rows)
                self.on_progress(stop)
        arrays = {
            column.name: Content((count, *column.shape), column.dtype, {"module": module})
            for column, module in zip(columns, modules, strict=True)
        }
        write_metadata(path, arrays, images, start=0, first_row=0, origin=self.origin)

    def remove_chunks(self) -> None:
        """Remove the files of all chunks, and their metadata."""
        for chunk in self.record.chunks:
            for module in self.columns:
                path = self.place.chunk(module, chunk.start, chunk.stop)
                path.unlink(missing_ok=True)
                metadata_path(path).unlink(missing_ok=True)

    def _chunks(self, modules: Sequence[str]) -> Iterator[tuple[int, list[Array]]]:
        read = FORMATS[self.place.file_format].read
        for chunk in self.record.chunks:
            if not chunk.row_count:
                continue
            paths = [self.place.chunk(module, chunk.start, chunk.stop) for module in modules]
            yield chunk.stop, [read(path)[FEATURES] for path in paths]


def file_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns as a file names them: a single one is called `features`."""
    if len(columns) > 1:
        return [*columns]
    return [replace(column, name=FEATURES) for column in columns]
