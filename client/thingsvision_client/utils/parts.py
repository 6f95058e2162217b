"""The parts of an extraction to a folder, which are read as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..arrays import Array, RowStore
from ..errors import InvalidRequestError
from ..formats import FEATURES
from ..jobs.record import read_record
from ..labels import names_in
from .feature_file import Found, merge_metadata, read_file
from .splitting import remember_names

_CHUNK = re.compile(rf"{FEATURES}(?P<suffix>.*)_(?P<start>\d+)-(?P<stop>\d+)\.(?P<ending>npy|pt)")
_WHOLE = re.compile(rf"{FEATURES}(?P<suffix>.*)\.(?P<ending>npy|pt)")


@dataclass(frozen=True)
class _Part:
    """A file of a module's rows [start, stop), which are counted from 0."""

    path: Path
    start: int
    stop: int


def read_parts(folder: Path, partial: bool) -> Found | None:
    """Read what an extraction to a folder wrote: a folder per module, or the folder of one."""
    by_suffix: dict[str, dict[str, list[_Part]]] = {}
    for module_folder in (folder, *sorted(one for one in folder.iterdir() if one.is_dir())):
        for suffix, parts in _parts_in(module_folder).items():
            module = "" if module_folder.name == "(model)" else unquote(module_folder.name)
            by_suffix.setdefault(suffix, {})[module] = parts
    if not by_suffix:
        return None
    if len(by_suffix) > 1:
        raise InvalidRequestError(
            f"{folder} has features of several suffixes ({', '.join(map(repr, by_suffix))}): pass "
            "the path of a file, or a folder with one of them."
        )
    ((suffix, modules),) = by_suffix.items()
    if not partial:
        _check_ended(folder, suffix, set(modules))
    read = {module: _join_parts(parts) for module, parts in modules.items()}
    counts = {module: len(array) for module, (array, _) in read.items()}
    if len(set(counts.values())) > 1:
        raise InvalidRequestError(
            f"The modules in {folder} have different numbers of rows ({counts}): pass the folder "
            "of one module."
        )
    named = {about.get("module") or module: (x, about) for module, (x, about) in read.items()}
    return {name: x for name, (x, _) in named.items()}, {
        name: one for name, (_, one) in named.items()
    }


def _parts_in(folder: Path) -> dict[str, list[_Part]]:
    """Return the parts in the folder of a module by their suffix, in order of rows."""
    found: dict[str, list[_Part]] = {}
    for path in folder.iterdir():
        if match := _CHUNK.fullmatch(path.name):
            part = _Part(path, int(match["start"]), int(match["stop"]))
            found.setdefault(match["suffix"], []).append(part)
    for path in folder.iterdir():
        match = _WHOLE.fullmatch(path.name)
        if match and not _CHUNK.fullmatch(path.name) and match["suffix"] not in found:
            found[match["suffix"]] = [_Part(path, 0, -1)]
    return {suffix: sorted(parts, key=lambda one: one.start) for suffix, parts in found.items()}


def _join_parts(parts: Sequence[_Part]) -> tuple[Array, dict[str, Any]]:
    expected = 0
    store: RowStore | None = None
    names: list[str] | None = []
    described = []
    for part in parts:
        arrays, metadata = read_file(part.path)
        array, about = next(iter(arrays.values())), next(iter(metadata.values()), {})
        store = store or RowStore(array.shape[1:], array.dtype)
        if part.start != expected and not _follows(about, part, store.count):
            raise InvalidRequestError(
                f"The rows {expected} to {part.start} are missing before {part.path}, or there "
                "twice: extract them again, or pass the path of one file."
            )
        if (store.shape, store.dtype) != (array.shape[1:], array.dtype):
            raise InvalidRequestError(
                f"All parts must have rows of shape {store.shape}, {store.dtype}; {part.path} has "
                f"{array.shape[1:]}, {array.dtype}."
            )
        expected = part.stop
        store.append(array)
        known = names_in(array)
        names = None if names is None or known is None else [*names, *known]
        described.append(about)
    assert store is not None  # noqa: S101 - there is a part
    whole = store.finish()
    remember_names(whole, names)
    return whole, merge_metadata(described)


def _follows(about: Mapping[str, Any], part: _Part, row_count: int) -> bool:
    """Tell whether a part follows so many rows: a part of skipped images alone has no file."""
    rows = about.get("rows") or [None]
    return bool(rows[0] == row_count and about.get("first_place") == part.start)


def _check_ended(folder: Path, suffix: str, modules: set[str]) -> None:
    """Refuse an extraction that has not ended, by its record."""
    for home in (folder, folder.parent):
        for path in sorted(home.glob(f".{FEATURES}*.job")):
            if not path.name.startswith(f".{FEATURES}{suffix}."):
                continue
            record = read_record(path)
            if record is None or record.ended or not modules & set(record.settings["modules"]):
                continue
            count = "" if record.names is None else f" of {len(record.names)}"
            raise InvalidRequestError(
                f"The extraction to {home} has not ended: {record.done}{count} images are "
                "complete. The same call goes on from there; partial=True reads what is complete."
            )


def unfinished_file(folder: Path) -> str:
    """Return a sentence about an extraction to a file that has not ended; empty without any."""
    for path in sorted(folder.glob(f".{FEATURES}.*.parts/job")):
        record = read_record(path)
        if record is not None:
            return (
                f" An extraction to {path.parent.name[1:].removesuffix('.parts')} has not ended "
                f"({record.done} images are complete): the same call goes on from there."
            )
    return ""
