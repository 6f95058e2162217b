"""Receives which images had forward passes of fewer images than their batch, and warns of it."""

from __future__ import annotations

from collections.abc import Iterable

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.caller import warn_caller
from ..errors import IncompleteReplyError


def add_split(splits: list[pb.SplitBatch], new: pb.SplitBatch) -> None:
    """Append images that follow those of the list, to its last entry if their passes are alike."""
    last = splits[-1] if splits else None
    follows = last is not None and last.first_index + last.image_count == new.first_index
    if last is not None and follows and last.pass_size == new.pass_size:
        last.image_count += new.image_count
    else:
        splits.append(new)


def check_splits(trailer: Iterable[pb.SplitBatch], seen: Iterable[pb.SplitBatch]) -> None:
    """Raise IncompleteReplyError if a trailer has other split batches than the reply before it."""
    told, received = (sum(one.image_count for one in them) for them in (trailer, seen))
    if told != received:
        raise IncompleteReplyError(
            f"The reply names {received} images whose batches were split, but the server split "
            f"batches of {told}: try again."
        )


def warn_of_splits(splits: Iterable[pb.SplitBatch], batch_size: int) -> None:
    """Warn if batches of a size that a user asked for had to be split."""
    found = list(splits)
    if not (found and batch_size):
        return
    listed = ", ".join(
        f"{one.first_index} to {one.first_index + one.image_count - 1} ({one.pass_size} at a time)"
        for one in found[:3]
    )
    more = f" and {len(found) - 3} more ranges" if len(found) > 3 else ""
    warn_caller(
        f"The server's device had no room for batches of {batch_size}: it ran images {listed}"
        f"{more}. The values are the same, up to rounding in their last bits; provenance names "
        "the images. A smaller batch_size keeps every batch whole."
    )
