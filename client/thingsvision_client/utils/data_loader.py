"""Splits datasets of this package, and subsets of them, into batches of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..arguments import as_whole
from ..errors import InvalidRequestError
from ..images.queue import ImageQueue
from ..signatures import checked
from .rows import (
    Dataset,
    DatasetImage,
    FixedAttributes,
    all_rows,
    queue_rows,
    root_of,
    transforms_of,
)
from .transforms import ServerTransforms, check_backend

_ALL = slice(None)


class ImageBatch(list[DatasetImage]):
    """The image names of one forward pass; `queue` returns the images, to be sent."""

    def __init__(self, dataset: Dataset, places: slice) -> None:
        super().__init__(dataset.place_rows(places))
        self.dataset = dataset
        self._places = places

    @property
    def transforms(self) -> ServerTransforms:
        """The preprocessing of the dataset."""
        return self.dataset.transforms

    @property
    def root(self) -> Path | None:
        """The folder of the names, if the images are files."""
        return self.dataset.root

    def queue(self) -> ImageQueue:
        """Return the images to send."""
        return self.dataset.place_queue(self._places)


@checked
class DataLoader(FixedAttributes):
    """A dataset, split into batches: one batch is one forward pass, for reproducible bits.

    `len()` is the number of batches. Iterating yields the image names of each batch, which
    `Extractor.extract_batch` takes.

    Args:
        dataset: An ImageDataset or HDF5Dataset, or torch's `Subset` or `ConcatDataset` of them.
        batch_size: Images in a batch, at least 1; the last batch may have fewer.
        backend: `pt` or `tf`, as in the dataset.

    Raises:
        InvalidRequestError: A batch size below 1, or another backend than the dataset's.
        TypeError: Another kind of dataset.

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
        rows = None if is_own else all_rows(dataset)
        if not is_own and not rows:
            raise TypeError(
                "`dataset` must be an ImageDataset or HDF5Dataset, or a subset of these that is "
                f"not empty, got {type(dataset).__name__}; pass batches of your own dataset to "
                "extract_features directly"
            )
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

    @property
    def rows(self) -> Sequence[DatasetImage]:
        """The images' names, in order; each knows the image and its class number."""
        return self.dataset[_ALL] if self._rows is None else self._rows

    @property
    def transforms(self) -> ServerTransforms:
        """The preprocessing of the images. Raises InvalidRequestError if they differ in it."""
        if self._rows is None:
            transforms: ServerTransforms = self.dataset.transforms
            return transforms
        return transforms_of(self._rows)

    @property
    def root(self) -> Path | None:
        """The folder of the names; None if there are several, or the images are not files."""
        if self._rows is None:
            root: Path | None = self.dataset.root
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
            images: ImageQueue = self.dataset.queue()
            return images
        return queue_rows(self._rows)

    def __len__(self) -> int:
        return -(-self._place_count // self.batch_size)

    @property
    def _place_count(self) -> int:
        """The number of places: images that were left out leave holes in their batches."""
        return self.dataset.place_count if self._rows is None else len(self._rows)

    def __iter__(self) -> Iterator[list[DatasetImage]]:
        for start in range(0, self._place_count, self.batch_size):
            rows = slice(start, start + self.batch_size)
            if self._rows is None:
                yield ImageBatch(self.dataset, rows)
            else:
                yield self._rows[rows]
