"""Rows of datasets, as torch's samplers, subsets and loaders hand them on.

A row stands for the input of its image, and knows the image, its name and class number: whatever
order a sampler chooses, names, pixels and targets stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ..errors import InvalidRequestError
from ..images.image import ImageOfDataset, ImagesOfDataset, SentImage
from ..images.indices import is_truth
from ..images.queue import ImageQueue, Reiterable
from .lazy_inputs import LazyInputs, collate_as
from .transforms import ServerTransforms

if TYPE_CHECKING:
    from ..arrays import Array


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


class DatasetImage(LazyInputs, ImageOfDataset):
    """An image of a dataset: the preprocessed input, which also knows the image itself.

    It is used as the array or tensor that the server makes of the image when it is asked for,
    channels x height x width for PyTorch; `str()` gives the name. Extractors send the image.

    Attributes:
        name: Name of the image.
        sent: The image, to send.
        target: Class number; None if the dataset has no classes.
        transforms: The dataset's preprocessing.
        root: Folder of the name; None if the image is not a file.

    """

    def __init__(
        self,
        sent: SentImage,
        *,
        target: int | None,
        transforms: ServerTransforms,
        root: Path | None,
        backend: str,
    ) -> None:
        self.sent = sent
        self.target = target
        self.transforms = transforms
        self.root = root
        self._backend = backend
        collate_as(DatasetImage, ImageBatch)

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.sent, self.target, self.transforms, self.root, self._backend)
        return _read_row, state

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"DatasetImage({self.name!r})"

    @property
    def name(self) -> str:
        """The name of the image."""
        return self.sent.name

    @property
    def needs_preprocessing(self) -> bool:
        """Whether the dataset asks for other preprocessing than the model's own."""
        return not self.transforms.is_plain

    def _make(self) -> Any:
        return self.transforms.inputs_of([self.sent], self._backend)[0]


def _read_row(
    sent: SentImage,
    target: int | None,
    transforms: ServerTransforms,
    root: Path | None,
    backend: str,
) -> DatasetImage:
    return DatasetImage(sent, target=target, transforms=transforms, root=root, backend=backend)


class ImageBatch(LazyInputs, ImagesOfDataset):
    """The images of one forward pass: their inputs, of which extractors send the images instead.

    `len()` is the number of images, and iterating yields them. Otherwise it is used as the array or
    tensor of their inputs, images x one input's shape; `str()` gives the names.

    Attributes:
        rows: The images; each knows its class number.

    """

    rows: list[DatasetImage]

    def __init__(self, rows: Sequence[DatasetImage], queue: ImageQueue | None = None) -> None:
        self.rows = list(rows)
        self._queue = queue
        self._backend = self.rows[0]._backend if self.rows else "pt"  # noqa: SLF001 - of this file
        collate_as(DatasetImage, ImageBatch)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageBatch, (self.rows, self._queue)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[DatasetImage]:
        return iter(self.rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, int) and not is_truth(place):
            return self.rows[place]
        if isinstance(place, slice):
            return ImageBatch(self.rows[place])
        return self.values[place]

    def __str__(self) -> str:
        return str(self.names)

    def __repr__(self) -> str:
        return f"ImageBatch({self.names})"

    @property
    def names(self) -> list[str]:
        """The names of the images."""
        return [row.name for row in self.rows]

    @property
    def targets(self) -> Any:
        """The class numbers, images x 1. Raises InvalidRequestError for images without classes."""
        return targets_of(self.rows)

    @property
    def transforms(self) -> ServerTransforms:
        """The preprocessing of the images. Raises InvalidRequestError if they differ in it."""
        return transforms_of(self.rows)

    @property
    def root(self) -> Path | None:
        """The folder of the names; None if there are several, or the images are not files."""
        return root_of(self.rows)

    def queue(self) -> ImageQueue:
        """Return the images to send, with holes for those that the dataset left out."""
        return queue_rows(self.rows) if self._queue is None else self._queue

    def _make(self) -> Any:
        return self.transforms.inputs_of([row.sent for row in self.rows], self._backend)


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
    if isinstance(batch, ImageBatch):
        return batch.rows
    if not isinstance(batch, (tuple, list)) or not batch:
        return None
    if all(isinstance(row, DatasetImage) for row in batch):
        return list(batch)
    return rows_in(batch[0]) if isinstance(batch[0], (tuple, list, ImageBatch)) else None


def all_rows(dataset: Any) -> list[DatasetImage] | None:
    """Return the rows of a subset, or of datasets in a row; None if its items are no rows."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return None
    rows = []
    for place in range(len(dataset)):
        item = dataset[place]
        row = item[0] if type(item) is tuple and item else item  # of (image, target)
        if not isinstance(row, DatasetImage):
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


def targets_of(rows: Sequence[DatasetImage]) -> Array:
    """Return the class numbers of rows, images x 1. Raises InvalidRequestError for no classes."""
    import numpy as np

    if any(row.target is None for row in rows):
        raise InvalidRequestError(
            "An HDF5Dataset has no classes for targets: use get_extractor(...).extract_features, "
            "which returns features only."
        )
    return np.array([[row.target] for row in rows], np.int64)


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
