"""Restores the origin of arrays that were read from a file, from the metadata beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from .document import file_sha256, read_origin
from .fingerprint import Fingerprint
from .memory import remember

if TYPE_CHECKING:
    from ..arrays import Array

_OF_THE_FILE = ("client_version", "file", "file_sha256", "format", "modules", "names", "written")


def restore_origins(path: Path, arrays: Mapping[str, Array]) -> None:
    """Remember the origin of each array of a file, if its metadata are of this very file."""
    try:
        document = read_origin(path)
    except InvalidRequestError:
        return
    if document.get("file_sha256") != file_sha256(path):
        return
    for name, array in arrays.items():
        try:
            origin = _origin(document, name)
        except (LookupError, TypeError):
            continue
        if origin is not None and len(origin["images"]) == len(array):
            remember(array, origin)


def _origin(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return what `remember` takes for an array of a file; None if nothing is known of it."""
    facts = document.get("origins", {}).get(name) or document
    if "model" not in facts:
        return None
    start, stop = document["modules"][name]["rows"] or facts["rows"]
    first = facts["rows"][0]
    images = facts["images"][start - first : stop - first]
    kind = facts.get("input", "encoded")
    return {
        **{key: value for key, value in facts.items() if key not in _OF_THE_FILE},
        "module": document["modules"][name]["module"],
        "images": tuple(Fingerprint(one["name"], one["sha256"], kind) for one in images),
    }
