"""Runs of images of one category, as rows of an RDM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath

from ..errors import InvalidRequestError
from ..labels import plain_name

FOLDERS = "folders"
"""Makes the folder of an image its category."""


@dataclass(frozen=True)
class Run:
    """Rows `start` to `stop` (exclusive) of one category."""

    name: str
    start: int
    stop: int

    @property
    def centre(self) -> float:
        """The middle of the rows; the first row is at 0."""
        return (self.start + self.stop - 1) / 2


def category_labels(
    categories: str | Sequence[str] | None, images: Sequence[str] | None, count: int
) -> list[str] | None:
    """Return the category of each row; None if there are none, or only one.

    `categories` is a label per row, FOLDERS, or None. Raises InvalidRequestError.
    """
    if categories is None or (categories == FOLDERS and images is None):
        return None
    if isinstance(categories, str):
        if categories != FOLDERS:
            raise InvalidRequestError(
                f"`categories` must be a label per image, {FOLDERS!r} or None, got {categories!r}."
            )
        labels = [PurePosixPath(plain_name(image)).parent.name for image in images or ()]
    else:
        labels = [str(label) for label in categories]
    if len(labels) != count:
        raise InvalidRequestError(
            f"`categories` must have a label per image ({count}), got {len(labels)}."
        )
    return labels if len(set(labels)) > 1 else None


def runs_of(labels: Sequence[str]) -> list[Run]:
    """Return the runs of equal labels, in order."""
    runs: list[Run] = []
    for name, group in groupby(labels):
        start = runs[-1].stop if runs else 0
        runs.append(Run(name, start, start + len(list(group))))
    return runs


def order_by_category(labels: Sequence[str]) -> list[int]:
    """Return the rows by category, categories in the order of their first rows."""
    first = {label: rank for rank, label in reversed(list(enumerate(labels)))}
    return sorted(range(len(labels)), key=lambda row: first[labels[row]])
