"""The paths of a job's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape
from hashlib import sha256
from pathlib import Path

from ..errors import InvalidRequestError
from ..files import file_stem
from ..formats import FORMATS


@dataclass(frozen=True)
class Place:
    """The paths of one job's files.

    Chunks are `{folder}/{module}/features{suffix}_{start}-{stop}` of images [start, stop), in
    `file_format`. `result` is the path that the user gave, `anew` says how to start again.
    """

    folder: Path
    suffix: str
    file_format: str
    record: Path
    result: Path
    anew: str

    @property
    def claims(self) -> Path:
        """The lock under which jobs in a folder, of one suffix, claim their modules."""
        return self.folder / f".features{self.suffix}.jobs.lock"

    def chunk(self, module: str, start: int, stop: int) -> Path:
        """Return the file of a module for images [start, stop)."""
        return self._file(module, f"_{start}-{stop}")

    def whole(self, module: str) -> Path:
        """Return the file of a module for all images."""
        return self._file(module, "")

    def temporary_files(self, modules: Sequence[str]) -> Iterator[Path]:
        """Yield the temporary files that a killed process left."""
        ending = re.escape(FORMATS[self.file_format].suffix)
        name = re.compile(rf"\.features{re.escape(self.suffix)}(_\d+-\d+)?\.{ending}\..+")
        for module in modules:
            files = (self.folder / file_stem(module)).glob(".features*")
            yield from (path for path in files if name.fullmatch(path.name))

    def _file(self, module: str, images: str) -> Path:
        name = f"features{self.suffix}{images}.{FORMATS[self.file_format].suffix}"
        return self.folder / file_stem(module) / name


def in_folder(folder: Path, suffix: str, file_format: str, modules: Sequence[str]) -> Place:
    """Return the place of a job whose chunks are its result. Raises InvalidRequestError.

    Jobs of other modules, or with another suffix, may share the folder.
    """
    if suffix and file_stem(suffix) != suffix:
        raise InvalidRequestError(
            f'`suffix` must be printable and without any of <>:"/\\|?*%, got {suffix!r}.'
        )
    key = sha256(json.dumps(list(modules)).encode()).hexdigest()[:8]
    return Place(
        folder=folder,
        suffix=suffix,
        file_format=file_format,
        record=folder / f".features{suffix}.{key}.job",
        result=folder,
        anew=f"delete {folder}, or choose another folder or suffix",
    )


def neighbours(place: Place) -> Iterator[Path]:
    """Yield the records of other jobs with the same suffix in a folder."""
    pattern = f"{escape(f'.features{place.suffix}.')}{'[0-9a-f]' * 8}.job"
    yield from (path for path in place.folder.glob(pattern) if path != place.record)


def for_file(path: Path) -> Place:
    """Return the place of a job whose chunks are hidden until the file `path` is complete."""
    parts = path.with_name(f".{path.name}.parts")
    return Place(
        folder=parts,
        suffix="",
        file_format="npy",
        record=parts / "job",
        result=path,
        anew=f"delete {parts}, or choose another folder",
    )
