"""Joins the images of several streams to the input of a pass, and parts its rows among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...backends.base import BatchRun, Rows
from .forward import Overflows
from .slots import Slot, join_neighbours
from .stream import FeatureRows, Hole, Prepared, PreparedImage, Share

Piece = tuple[BatchRun, Overflows]
"""A pass of a batch, or of a part of it where the device had no room for more."""


def batch_inputs(images: Sequence[Prepared]) -> list[Any]:
    """Return the pieces of a batch, with its first input in the places of holes.

    Without any input there are none.
    """
    filler = next((one for one in images if isinstance(one, PreparedImage)), None)
    if filler is None:
        return []
    return join_neighbours([_input(image, filler) for image in images])


def _input(image: Prepared, filler: PreparedImage) -> tuple[Any, Slot | None]:
    if isinstance(image, PreparedImage):
        return image.tensor, image.slot
    return (image.slot.fill(filler.tensor) if image.slot else filler.tensor), image.slot


def share_rows(share: Share, pieces: list[Piece], start: int) -> Iterator[FeatureRows]:
    """Yield the rows of a share, piece by piece; its first row is row `start` of the batch."""
    begin, stop = 0, start + len(share.images)
    if not pieces and share.images:  # nothing but holes
        skipped, count = _find_skipped(share.images), len(share.images)
        yield FeatureRows([], [], skipped=skipped, place_count=count)
    for run, overflows in pieces:
        end = begin + len(overflows)
        first, last = max(start, begin), min(stop, end)
        if first < last:
            rows = _piece_rows(
                share.images[first - start : last - start],
                [array[first - begin : last - begin] for array in run.rows],
                overflows[first - begin : last - begin],
            )
            pass_size = end - begin if len(pieces) > 1 else 0
            yield replace(rows, place_count=last - first, pass_size=pass_size)
        begin = end


def _piece_rows(
    images: Sequence[Prepared], arrays: list[Rows], overflows: Overflows
) -> FeatureRows:
    """Return the rows of images, without those of holes."""
    names = [image.name for image in images if isinstance(image, PreparedImage)]
    if len(names) < len(images):
        kept = [row for row, image in enumerate(images) if isinstance(image, PreparedImage)]
        arrays, overflows = [array[kept] for array in arrays], overflows[kept]
    return FeatureRows(names, arrays, int(overflows.sum()), _find_skipped(images))


def _find_skipped(images: Sequence[Prepared]) -> list[Hole]:
    """Return the holes of images that were sent, which their sender does not know of."""
    return [image for image in images if isinstance(image, Hole) and image.reason]
