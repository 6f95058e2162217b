"""Reads a file of features with its metadata, and tells what the metadata of pieces says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..calls.caller import warn_caller
from ..errors import InvalidRequestError
from ..files import metadata_path
from ..formats import BY_ENDING, FEATURES, FORMATS
from ..origins import file_sha256
from ..values.servers import ServedRows, join_ranges
from .row_naming import saved_names
from .splitting import remember_names

ENDINGS = {**BY_ENDING, ".hdf5": FORMATS["hdf5"]}
"""Formats by the endings of files, the library's included."""

OF_ROWS = frozenset(
    [
        *("images", "rows", "file", "file_sha256", "written", "modules", "names"),
        *("skipped", "first_place", "servers"),
    ]
)
"""What the metadata of two pieces of the same features may differ in."""


Found = tuple[dict[str, Array], dict[str, dict[str, Any]]]
"""Arrays by name, and what their metadata says, by the same names."""


def read_file(path: Path) -> Found:
    """Return the arrays of a file, a single one under the name of its module, if it is known."""
    file_format = ENDINGS.get(path.suffix.lower())
    if file_format is None:
        raise InvalidRequestError(
            f"`path` must be a file of features ({', '.join(sorted(ENDINGS))}), got {str(path)!r}."
        )
    arrays, names = file_format.read(path), saved_names(path, file_format)
    for array in arrays.values():
        remember_names(array, names)
    document = read_document(path)
    described = {name: describe_array(document, name) for name in arrays} if document else {}
    if list(arrays) == [FEATURES] and (module := described.get(FEATURES, {}).get("module")):
        return {module: arrays[FEATURES]}, {module: described[FEATURES]}
    return arrays, described


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the metadata of a file; None without, or if the file is no longer what it is about."""
    try:
        document: Any = json.loads(metadata_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        warn_caller(f"{metadata_path(path)} can't be read: the provenance of {path} is not known.")
        return None
    if not isinstance(document, dict) or not isinstance(document.get("modules"), dict):
        return None
    if document.get("file_sha256") != file_sha256(path):
        warn_caller(
            f"{path} was changed after {metadata_path(path).name} was written: its provenance is "
            "not known."
        )
        return None
    return document


def describe_array(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what metadata says of one array: its facts, and its module."""
    modules = document["modules"]
    entry = modules.get(name) or (next(iter(modules.values())) if len(modules) == 1 else {})
    facts = {key: value for key, value in document.items() if key not in ("modules", "origins")}
    if "origins" in document:
        facts |= document["origins"].get(name, {})
    return {**facts, "module": entry.get("module")}


def merge_metadata(described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the metadata of consecutive pieces says together; empty if they disagree."""
    if not described or any("model" not in one for one in described):
        return {}
    facts = [
        {k: v for k, v in one.items() if k not in OF_ROWS | {"extracted"}} for one in described
    ]
    if any(one != facts[0] for one in facts):
        warn_caller(
            "The pieces were computed differently, by their metadata: their provenance is not "
            "told. Read them one by one."
        )
        return {}
    images = [image for one in described for image in one.get("images", ())]
    rows = [described[0].get("rows", [0])[0], described[-1].get("rows", [0, 0])[-1]]
    skipped = [image for one in described for image in one.get("skipped", ())]
    merged = {**described[0], "images": images, "rows": rows}
    if "servers" in merged:
        ranges = (one for piece in described for one in piece.get("servers", ()))
        merged["servers"] = [
            one.to_dict() for one in join_ranges(map(ServedRows.from_dict, ranges))
        ]
    return {**merged, "skipped": skipped} if skipped else merged
