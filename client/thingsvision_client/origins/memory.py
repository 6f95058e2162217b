"""The origin of arrays, remembered as long as they live."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .description import Request, describe

if TYPE_CHECKING:
    from ..arrays import Array
    from ..rpc.extraction import Extraction
    from ..values.options import ExtractOptions
    from .fingerprint import Fingerprint


@dataclass(frozen=True)
class _Memory:
    """The rows of an array: their address in memory, and their origin."""

    start: int
    byte_count: int
    row_bytes: int
    dtype: Any
    origin: Mapping[str, Any]

    def rows_of(self, array: Array) -> tuple[int, int] | None:
        """Return which of these rows an array shares, if it consists of whole rows in order."""
        offset = _address(array) - self.start
        fits = 0 <= offset <= self.byte_count - array.nbytes and array.dtype == self.dtype
        if not fits or offset % self.row_bytes or array.nbytes != len(array) * self.row_bytes:
            return None
        return offset // self.row_bytes, offset // self.row_bytes + len(array)


SWITCH_VARIABLE = "THINGSVISION_REMEMBER_ORIGINS"
"""`0` switches this off: files are then saved without provenance, named by file_names.txt."""

_MEMORIES: dict[int, tuple[weakref.ref[Any], list[_Memory]]] = {}
"""By the id of the array that owns the memory, as long as it lives; views keep it alive."""


def remember(array: Array, origin: Mapping[str, Any]) -> None:
    """Remember the origin of an array of images x shape as long as it, or a view of it, lives.

    `origin` has all that `describe` returns, `module`, `image_count`, and `images`: a Fingerprint
    for each row.
    """
    if os.environ.get(SWITCH_VARIABLE) == "0":
        return
    if not array.ndim or not array.nbytes or not array.flags.c_contiguous:
        return
    owner = _owner(array)
    key = id(owner)
    known = _MEMORIES.setdefault(key, (weakref.ref(owner, lambda _: _MEMORIES.pop(key, None)), []))
    row_bytes = array.nbytes // len(array)
    known[1].append(
        _Memory(
            start=_address(array),
            byte_count=array.nbytes,
            row_bytes=row_bytes,
            dtype=array.dtype,
            origin=dict(origin),
        )
    )


def origin_of(array: Array) -> Mapping[str, Any] | None:
    """Return the origin of an array, or of whole rows of one.

    An extractor remembers the origin of the arrays that it returns. Changes of values in place are
    not noticed.

    Args:
        array: Features, images x shape.

    Returns:
        Model, preprocessing, options and versions; `rows`, which is [first, after the last] of the
        extraction; and `images`, the name and SHA-256 of each row. None if the origin is not known.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches, origin_of

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("photos", "results", extractor.get_backend(), batch_size=32)
        features = extractor.extract_features(batches, "features.10")
        print(origin_of(features[:2])["images"])
        ```

    """
    if not array.ndim or not array.nbytes or not array.flags.c_contiguous:
        return None
    for _, memories in list(_MEMORIES.values()):
        for memory in reversed(memories):
            if (rows := memory.rows_of(array)) is not None:
                return _part(memory.origin, *rows)
    return None


def _part(origin: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    images = [image.to_dict() for image in origin["images"][start:stop]]
    return {**origin, "rows": [start, stop], "images": images}


def _owner(array: Any) -> Any:
    while isinstance(array.base, type(array)):
        array = array.base
    return array


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def remember_extraction(
    extraction: Extraction,
    images: Iterable[Fingerprint],
    *,
    options: ExtractOptions,
    root: Path | None = None,
) -> None:
    """Remember the origin of each array of an extraction; `images` were sent for it.

    The rest is as in `Request`.
    """
    sent = tuple(images)
    request = Request(extraction.batch_size, options, root)
    kind = sent[0].kind if sent else "encoded"
    origin = {**describe(extraction.provenance, request, kind), "image_count": len(sent)}
    for module, array in extraction.features.items():
        remember(array, {**origin, "module": module, "images": sent})
