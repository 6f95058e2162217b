"""The images to run again when checking a file: random but reproducible whole batches."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Rows:
    """Rows [start, stop) of an extraction of `image_count` images, in batches of `batch_size`.

    `image_count` is None if unknown, `batch_size` 0 if the server chose the batches.
    """

    start: int
    stop: int
    batch_size: int
    image_count: int | None

    def sample(self, count: int, seed: int, unusable: Set[int]) -> list[int]:
        """Return rows in order: the batches of `count` random rows, without `unusable` rows.

        They are whole batches, whose bits can be equal. If the rows contain none, they are parts of
        batches, whose bits may differ.
        """
        batches = self._batches(only_whole=True) or self._batches(only_whole=False)
        usable = [batch for batch in batches if unusable.isdisjoint(batch)]
        rows = [row for batch in usable for row in batch]
        drawn = set(Random(seed).sample(rows, min(count, len(rows))))  # noqa: S311 - no secret
        return [row for batch in usable if not drawn.isdisjoint(batch) for row in batch]

    def _batches(self, *, only_whole: bool) -> list[range]:
        size = self.batch_size or 1
        first = self.start - self.start % size
        whole = [range(start, start + size) for start in range(first, self.stop, size)]
        if self.image_count is not None:
            whole = [range(batch.start, min(batch.stop, self.image_count)) for batch in whole]
        if only_whole:
            return [one for one in whole if one.start >= self.start and one.stop <= self.stop]
        return [range(max(one.start, self.start), min(one.stop, self.stop)) for one in whole]
