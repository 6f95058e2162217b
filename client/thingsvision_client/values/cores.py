"""How many cores of a CPU the forward passes of an extraction use."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Cores:
    """How many cores of a CPU each forward pass used, which decides its last bits.

    The server plans them from `batch_size` and the number of all images: batches that are too few
    for all lanes share all cores.

    Attributes:
        count: Cores of a pass; 0 means the share of a lane of the server.
        tail_start: Place of the first image of the last passes, which used `tail_count` cores.
        tail_count: Cores of the last passes; 0 means as before.

    """

    count: int = 0
    tail_start: int = 0
    tail_count: int = 0

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Cores:
        """Return the cores in what a server told; a lane's, from a server that did not tell."""
        return Cores(**facts.get("cores") or {})

    def of_places(self, places: Sequence[int]) -> Cores:
        """Return the same cores for images of some places, in order, sent in a request."""
        return replace(self, tail_start=bisect_left(places, self.tail_start))

    def from_place(self, first: int) -> Cores:
        """Return the same cores for a request with the images from a place on."""
        return replace(self, tail_start=max(0, self.tail_start - first))
