"""Leaves images without a row out of their datasets, whose names are then the names of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..errors import BadImage, BadImagesError
from ..utils.data import DataLoader, ImageBatch, ImageDataset
from ..utils.rows import DatasetImage

_ADVICE = (
    "on_error='skip' leaves images out of whole datasets only, but these batches are of {what}, "
    "whose names would not be those of the rows: pass the loader of an ImageDataset, made with "
    "file_names= if it is a part of a folder."
)


def leave_out(
    batches: Any,
    rows: Sequence[DatasetImage] | None,
    skipped: Sequence[BadImage],
    *,
    result: Any = None,
    folder: Path | None = None,
) -> None:
    """Leave images that were skipped out of the datasets of a user's batches.

    `rows` are the images of all batches, None for those of a loader over one dataset and for
    images without a dataset. Places of skipped images are places in them. Raises BadImagesError
    with the `result`, or naming the `folder`, for batches of anything but whole datasets.
    """
    if rows is None:
        dataset = batches.dataset if isinstance(batches, DataLoader) else None
        if isinstance(dataset, ImageDataset):
            dataset.leave_out(skipped)
        return
    bad = [one for one in skipped if not one.is_known]
    if not bad:
        return
    # The attributes of a batch of ours are those of its values, which a server would make.
    dataset = None if isinstance(batches, ImageBatch) else getattr(batches, "dataset", None)
    parts = list(_whole_datasets(dataset))
    datasets = [part for part in parts if isinstance(part, ImageDataset)]
    places = _places_of(rows, datasets)
    if len(datasets) < len(parts) or places is None:
        where = "in this error's `result`" if folder is None else f"complete in {folder}"
        what = type(batches if dataset is None else dataset).__name__
        advice = f"The features of the other images are {where}. {_ADVICE.format(what=what)}"
        raise BadImagesError.of(bad, len(rows), advice, result)
    for number, part in enumerate(datasets):
        mine = [one for one in bad if places[one.place][0] == number]
        part.leave_out([replace(one, place=places[one.place][1]) for one in mine])
    _count_again(dataset)


def _whole_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the datasets that torch's ConcatDataset joins, or the only one."""
    if not hasattr(dataset, "datasets"):
        yield dataset
        return
    for part in dataset.datasets:
        yield from _whole_datasets(part)


def _places_of(
    rows: Sequence[DatasetImage], datasets: Sequence[ImageDataset]
) -> list[tuple[int, int]] | None:
    """Return the dataset of each row, and the place of its image there.

    Rows may be in any order. None if they are not all the images of the datasets, each once.
    """
    places = [
        (number, place, (dataset.root, name))
        for number, dataset in enumerate(datasets)
        for name, place in zip(dataset.names, dataset.places, strict=True)
    ]
    known: dict[Any, list[tuple[int, int]]] = {}
    for number, place, key in places:
        known.setdefault(key, []).append((number, place))
    found = []
    for row in rows:
        left = known.get((row.root, row.name))
        if not left:  # of another dataset, or drawn more than once
            return None
        found.append(left.pop(0))  # an image that is there twice has its places in their order
    return found if len(rows) == len(places) else None


def _count_again(dataset: Any) -> None:
    """Have torch's ConcatDataset know how many images its parts have now."""
    for part in getattr(dataset, "datasets", ()):
        _count_again(part)
    if hasattr(dataset, "cumulative_sizes"):
        dataset.cumulative_sizes = list(accumulate(map(len, dataset.datasets)))
