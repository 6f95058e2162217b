"""Splits datasets of this package, and subsets of them, into batches of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..calls.arguments import as_whole
from ..calls.signatures import check_arguments
from ..display.cards import Shown
from ..errors import InvalidRequestError
from ..images.queue import ImageQueue
from .item_batches import is_indexed, stack_items
from .rows import (
    Dataset,
    DatasetImage,
    FixedAttributes,
    ImageBatch,
    all_rows,
    queue_rows,
    root_of,
    transforms_of,
)
from .transforms import ServerTransforms, check_backend

_ALL = slice(None)


@check_arguments
class DataLoader(Shown, FixedAttributes):
    """A dataset, split into batches: one batch is one forward pass, for reproducible bits.

    `len()` is the number of batches. Iterating yields batches that `Extractor.extract_batch` takes:
    they are used as arrays or tensors of preprocessed inputs, which the server makes when it is
    asked for their values, whereas extractors send the images themselves.

    Args:
        dataset: An ImageDataset or HDF5Dataset, torch's `Subset` or `ConcatDataset` of them, or a
            dataset of your own: anything with `len()` whose items, by number, are preprocessed
            inputs or images (of pairs, the first is taken).
        batch_size: Images in a batch, at least 1; the last batch may have fewer.
        backend: `pt` or `tf`, as in the dataset.

    Raises:
        InvalidRequestError: A batch size below 1, or another backend than the dataset's.
        TypeError: What is not a dataset, or is empty.

    Example:
        ```python
        from thingsvision_client import DataLoader, ImageDataset, get_extractor

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        dataset = ImageDataset("images", "results", extractor.get_backend())
        batches = DataLoader(dataset, batch_size=32, backend=extractor.get_backend())
        print(extractor.extract_features(batches, "features.10").shape)
        ```

    """

    _fields = frozenset({"backend", "dataset"})
    _checked: ClassVar = {"batch_size": partial(as_whole, "batch_size", smallest=1)}

    def __init__(self, dataset: Any, batch_size: int, backend: str) -> None:
        is_own = isinstance(dataset, Dataset)
        if not is_own and not (is_indexed(dataset) and len(dataset)):
            raise TypeError(
                "`dataset` must be an ImageDataset or HDF5Dataset, or have len() and items by "
                f"number and not be empty, got {type(dataset).__name__}: batches of your own can "
                "be passed to extract_features directly."
            )
        rows = None if is_own else all_rows(dataset)
        batch_size = as_whole("batch_size", batch_size, smallest=1)
        expected = getattr(dataset, "backend", backend)
        if check_backend(backend) != expected:
            raise InvalidRequestError(
                f"`backend` must be {expected!r}, as in the dataset, got {backend!r}."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.backend = backend
        self._rows = rows
        self._is_own = is_own

    @property
    def has_rows(self) -> bool:
        """Whether the images are of datasets of this package."""
        return self._is_own or self._rows is not None

    def _facts(self) -> dict[str, Any]:
        return {
            "batches": len(self),
            "batch size": self.batch_size,
            "dataset": repr(self.dataset),
        }

    @property
    def rows(self) -> Sequence[DatasetImage]:
        """The images' names, in order; each knows the image and its class number."""
        return self._all_rows() if self._rows is None else self._rows

    @property
    def transforms(self) -> ServerTransforms:
        """The preprocessing of the images. Raises InvalidRequestError if they differ in it."""
        if self._rows is None:
            transforms: ServerTransforms = self._own_dataset().transforms
            return transforms
        return transforms_of(self._rows)

    @property
    def root(self) -> Path | None:
        """The folder of the names; None if there are several, or the images are not files."""
        if self._rows is None:
            root: Path | None = self._own_dataset().root
            return root
        return root_of(self._rows)

    def queue(self) -> ImageQueue:
        """Return all images, to be sent by a method of `Client`.

        Returns:
            The images, each read only when it is sent.

        Example:
            ```python
            from thingsvision_client import Client, load_batches

            batches = load_batches("photos", "results", "pt", batch_size=2)
            print(Client().extract("torchvision/alexnet", batches.queue(), "features.3").images)
            ```

        """
        if self._rows is None:
            images: ImageQueue = self._own_dataset().queue()
            return images
        return queue_rows(self._rows)

    def _own_dataset(self) -> Dataset:
        if not self._is_own:
            raise TypeError(
                f"The images of {type(self.dataset).__name__} are known only by their values: pass "
                "this loader to extract_features."
            )
        dataset: Dataset = self.dataset
        return dataset

    def _all_rows(self) -> list[DatasetImage]:
        return self._own_dataset()[_ALL]

    def __len__(self) -> int:
        return -(-self._place_count // self.batch_size)

    @property
    def _place_count(self) -> int:
        """The number of places: images that were left out leave holes in their batches."""
        if self._is_own:
            return int(self.dataset.place_count)
        return len(self.dataset if self._rows is None else self._rows)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self._place_count, self.batch_size):
            places = slice(start, start + self.batch_size)
            if self._is_own:
                queue = self.dataset.place_queue(places)
                yield self._batch(self.dataset.place_rows(places), queue)
            elif self._rows is not None:
                yield self._batch(self._rows[places])
            else:
                numbers = range(start, min(start + self.batch_size, self._place_count))
                yield stack_items([self.dataset[number] for number in numbers])

    def _batch(self, rows: Sequence[DatasetImage], queue: ImageQueue | None = None) -> Any:
        make = getattr(self.dataset, "make_batch", ImageBatch)
        return make(rows, queue)
