"""Rows of datasets, as torch's samplers, subsets and loaders hand them on.

A row is the name of its image, which knows the image and its class number: whatever order a
sampler chooses, names, pixels and targets stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from ..errors import InvalidRequestError
from ..images.image import ImageName, SentImage
from ..images.indices import is_truth
from ..images.queue import ImageQueue, Reiterable
from .transforms import ServerTransforms


class FixedAttributes:
    """Attributes that are assigned once; later only those that can have an effect, checked."""

    _fields: ClassVar[frozenset[str]] = frozenset()
    _checked: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        is_first = name in self._fields and name not in vars(self)
        if name in self._checked and not isinstance(getattr(type(self), name, None), property):
            value = self._checked[name](value)
        elif not (name.startswith("_") or is_first):
            kind = type(self)
            is_users = kind.__module__.partition(".")[0] != __name__.partition(".")[0]
            if not is_users or name in self._fields or hasattr(kind, name):
                able = ", ".join(f"`{one}`" for one in sorted(self._checked))
                raise AttributeError(
                    f"`{name}` of {kind.__name__} can't be assigned: make a new one with other "
                    f"arguments; {able} can be assigned."
                )
        super().__setattr__(name, value)


@runtime_checkable
class Dataset(Protocol):
    """An ImageDataset or HDF5Dataset: images in a fixed order of rows."""

    transforms: ServerTransforms
    backend: str
    root: Path | None

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> list[DatasetImage]: ...

    def queue(self, rows: slice = ...) -> ImageQueue:
        """Return the images of some rows, to be sent."""

    @property
    def place_count(self) -> int:
        """The number of images as the dataset was made, with those left out since."""

    def place_rows(self, places: slice) -> list[DatasetImage]:
        """Return the rows at some places; images that were left out have none."""

    def place_queue(self, places: slice) -> ImageQueue:
        """Return the images at some places, to be sent, with holes for those left out."""


class DatasetImage(ImageName):
    """The name of a dataset's image, which also knows the image and its class number.

    Attributes:
        sent: The image, to send.
        target: Class number; None if the dataset has no classes.
        transforms: The dataset's preprocessing.
        root: Folder of the name; None if the image is not a file.

    """

    target: int | None
    transforms: ServerTransforms
    root: Path | None

    @property
    def needs_preprocessing(self) -> bool:
        """Whether the dataset asks for other preprocessing than the model's own."""
        return not self.transforms.is_plain


def dataset_image(
    sent: SentImage, *, target: int | None, transforms: ServerTransforms, root: Path | None
) -> DatasetImage:
    """Return the row of an image."""
    row = DatasetImage(sent.name)
    row.sent, row.target, row.transforms, row.root = sent, target, transforms, root
    return row


def row_number(row: Any) -> int:
    """Return the number of a row. Raises InvalidRequestError for what is not a whole number.

    True and False, as of a mask given to torch's Subset, would be taken for the rows 1 and 0.
    """
    if not is_truth(row) and "bool" not in str(getattr(row, "dtype", "")):
        try:
            return index(row)
        except TypeError:
            pass
    raise InvalidRequestError(
        f"A row must be a whole number, got {row!r}: of a mask, use np.flatnonzero(mask)."
    )


def row_at(rows: Sequence[Any], number: Any) -> Any:
    """Return a row by its number. Raises InvalidRequestError, and IndexError, which ends loops."""
    place = row_number(number)
    try:
        return rows[place]
    except IndexError:
        raise IndexError(f"A row must be from 0 to {len(rows) - 1}, got {place}.") from None


def rows_in(batch: Any) -> list[DatasetImage] | None:
    """Return the rows that a loader made a batch of, or of (rows, ...); None for other batches."""
    if isinstance(batch, DatasetImage):
        return [batch]
    if not isinstance(batch, (tuple, list)) or not batch:
        return None
    if all(isinstance(row, DatasetImage) for row in batch):
        return list(batch)
    return rows_in(batch[0]) if isinstance(batch[0], (tuple, list)) else None


def all_rows(dataset: Any) -> list[DatasetImage] | None:
    """Return the rows of a subset, or of datasets in a row; None if its items are no rows."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return None
    rows = []
    for place in range(len(dataset)):
        if not isinstance(row := dataset[place], DatasetImage):
            return None
        rows.append(row)
    return rows


def read_batches(given: Iterable[Any]) -> tuple[list[Any] | None, Iterator[Any]]:
    """Return the batches of rows, read to their end: a second reading may have another order.

    If the first batch has no rows, return None and an iterator of all batches. Raises TypeError
    for a mixture.
    """
    remaining = iter(given)
    first = next(remaining, None)
    if rows_in(first) is None:
        return None, remaining if first is None else chain([first], remaining)
    batches = [first, *remaining]
    for batch in batches:
        if rows_in(batch) is None:
            raise TypeError(
                "All batches must have images of a dataset of this package, as the first has, got "
                f"{type(batch).__name__}."
            )
    return batches, remaining


def rows_of(batches: Iterable[Any]) -> list[DatasetImage]:
    """Return the rows of all batches, in their order."""
    return [row for batch in batches for row in rows_in(batch) or ()]


def queue_rows(rows: Sequence[DatasetImage]) -> ImageQueue:
    """Return the images of rows, to be sent in their order."""
    return ImageQueue(Reiterable(lambda: (row.sent for row in rows)), len(rows))


def root_of(rows: Sequence[DatasetImage]) -> Path | None:
    """Return the folder of the rows' names; None if they have several, or none."""
    roots = {row.root for row in rows}
    return roots.pop() if len(roots) == 1 else None


def transforms_of(rows: Sequence[DatasetImage]) -> ServerTransforms:
    """Return the preprocessing of rows. Raises InvalidRequestError if they differ in it."""
    first = rows[0]
    for row in rows:
        if row.transforms is not first.transforms and row.transforms != first.transforms:
            raise InvalidRequestError(
                "All images of a call must have the same `transforms`, got "
                f"{first.transforms!r} for {str(first)!r} and {row.transforms!r} for "
                f"{str(row)!r}: give the datasets the same, or make one call for each.",
                subject=str(row),
            )
    return first.transforms
