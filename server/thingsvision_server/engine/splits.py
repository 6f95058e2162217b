"""Remembers which images had forward passes of fewer images than their batch."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SplitBatch:
    """Consecutive images whose batches the device had no room for."""

    first_index: int
    """Index of the first of them in the request."""
    image_count: int
    pass_size: int
    """Images in each of their passes; the last pass of a batch may have fewer."""

    @property
    def stop_index(self) -> int:
        """Return the index after the last of the images."""
        return self.first_index + self.image_count


def add_split(splits: list[SplitBatch], new: SplitBatch) -> None:
    """Append images that follow those of the list, to its last entry if their passes are alike."""
    last = splits[-1] if splits else None
    if last and last.stop_index == new.first_index and last.pass_size == new.pass_size:
        splits[-1] = replace(last, image_count=last.image_count + new.image_count)
    else:
        splits.append(new)
