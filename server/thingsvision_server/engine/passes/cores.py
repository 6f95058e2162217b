"""Plans on how many cores each batch of an extraction runs, from numbers that load can't change."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

_SCALING = 0.85
"""Passes on n cores are n ** 0.85 times as fast as on one: 1.8 times on two, as measured."""


@dataclass(frozen=True)
class CorePlan:
    """The cores of the passes of an extraction, by the place of a batch's first image.

    Sums over another number of cores differ in their last bits.
    """

    count: int
    tail_start: int = 0
    """The first image of the last batches, which run on `tail_count` cores."""
    tail_count: int = 0
    """0: as the others."""

    def at(self, place: int) -> int:
        """Return the cores of the batch that begins with this image."""
        return self.tail_count if self.tail_count and place >= self.tail_start else self.count

    def within(self, count: int, lane_count: int) -> CorePlan:
        """Return the plan on a machine of `count` cores; 0 cores are the share of a lane."""
        return CorePlan(
            min(self.count, count) or lane_count, self.tail_start, min(self.tail_count, count)
        )


def plan_cores(cores: int, lanes: int, *, batch_size: int, image_count: int) -> CorePlan:
    """Return the plan for all images of a job on `cores` cores, shared by `lanes` lanes.

    Batches run one per lane, as long as there are as many full batches as lanes. The batches that
    are left share all cores: so many at a time as are done first.
    """
    lane_count = max(1, cores // lanes)
    full_count, rest = divmod(image_count, batch_size)
    tail = [batch_size] * (full_count % lanes) + ([rest] if rest else [])
    tail_count = cores // _fastest_width(cores, tail) if tail else 0
    if tail_count <= lane_count:
        return CorePlan(lane_count)
    return CorePlan(lane_count, image_count - sum(tail), tail_count)


def _fastest_width(cores: int, batches: list[int]) -> int:
    """Return how many of the batches, of so many images each, run at a time."""
    return min(
        range(min(len(batches), cores), 0, -1), key=lambda width: _time(cores, batches, width)
    )


def _time(cores: int, batches: list[int], width: int) -> float:
    """Return how long batches take, `width` at a time; 1: an image on one core."""
    rounds = range(ceil(len(batches) / width))
    images = sum(batches[number * width] for number in rounds)
    return float(images / (cores // width) ** _SCALING)
