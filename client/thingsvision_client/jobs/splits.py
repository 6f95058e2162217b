"""Which images of a job had smaller forward passes than their batch, and which server ran them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..origins import Fingerprint
from ..values.provenance import SplitBatch
from ..values.servers import ServedRows, ServerFacts, join_ranges

if TYPE_CHECKING:
    from ..rpc.feature_stream import FeatureStream


def pass_sizes(stream: FeatureStream, first: int = 0) -> dict[int, int]:
    """Return the images in the passes of split batches, by place; `first` is that of the call."""
    return {
        place: one.pass_size
        for one in stream.provenance.split_batches
        for place in range(first + one.first_index, first + one.first_index + one.image_count)
    }


def find_splits(images: Iterable[Fingerprint], start: int) -> list[SplitBatch]:
    """Return the split batches among images, the first of which is at the place `start`."""
    found: list[SplitBatch] = []
    for place, image in enumerate(images, start):
        if not image.pass_size:
            continue
        last = found[-1] if found else None
        follows = last is not None and last.first_index + last.image_count == place
        if last is not None and follows and last.pass_size == image.pass_size:
            found[-1] = SplitBatch(last.first_index, last.image_count + 1, last.pass_size)
        else:
            found.append(SplitBatch(place, 1, image.pass_size))
    return found


def write_splits(images: Sequence[Fingerprint]) -> dict[str, Any]:
    """Return what a chunk's line in a record says of its split batches, if it has any."""
    found = [list(vars(one).values()) for one in find_splits(images, 0)]
    return {"split": found} if found else {}


def read_splits(entry: dict[str, Any], count: int) -> list[int]:
    """Return the images in the pass of each of `count` images, as `write_splits` wrote them."""
    sizes = [0] * count
    for first, image_count, pass_size in entry.get("split", ()):
        sizes[first : first + image_count] = [pass_size] * image_count
    return sizes


def find_servers(images: Iterable[Fingerprint], start: int) -> list[ServedRows]:
    """Return which server computed which of the images, the first of which is at `start`."""
    return join_ranges(
        ServedRows(place, 1, image.server)
        for place, image in enumerate(images, start)
        if image.server is not None
    )


def write_servers(images: Sequence[Fingerprint]) -> dict[str, Any]:
    """Return what a chunk's line in a record says of its servers, if they are known."""
    found = [one.to_dict() for one in find_servers(images, 0)]
    return {"servers": found} if found else {}


def read_servers(entry: dict[str, Any], count: int) -> list[ServerFacts | None]:
    """Return the server of each of `count` images, as `write_servers` wrote them."""
    servers: list[ServerFacts | None] = [None] * count
    for one in map(ServedRows.from_dict, entry.get("servers", ())):
        last = one.first_index + one.image_count
        servers[one.first_index : last] = [one.server] * one.image_count
    return servers


def with_servers(images: Sequence[Fingerprint], servers: Iterable[Any]) -> Iterator[Fingerprint]:
    """Yield the images with their servers, as a file's metadata have them."""
    known = read_servers({"servers": list(servers)}, len(images))
    for image, server in zip(images, known, strict=False):
        yield replace(image, server=server)
