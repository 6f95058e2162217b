"""Image datasets in a fixed order of rows; no image is opened before it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..images.folder import class_folders, image_names
from ..images.queue import ImageQueue, queue_files
from .file_names import FILE_NAMES, write_lines
from .hdf5_dataset import HDF5Dataset
from .transforms import ServerTransforms, as_transforms, check_backend

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "DataLoader",
    "Dataset",
    "HDF5Dataset",
    "ImageBatch",
    "ImageDataset",
    "load_batches",
]

_ALL = slice(None)


class ImageDataset:
    """The images below a folder, in a fixed order that is written to `file_names.txt`.

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt`, which has the name of each row's image.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        class_names: Class folders to use, in this order; all of them, sorted, by default.
        file_names: Images relative to `root`, in exactly this order; all, sorted, by default.
        transforms: What the extractor's `get_transformations` returned; None means the model's own
            preprocessing. The server applies it.

    Attributes:
        names: Names of the images relative to `root`, in the order of the rows.
        classes: Names of the classes; in a folder without class folders, every image is its own
            class.

    Raises:
        InvalidRequestError: Names that do not exist, or an unknown backend.

    Example:
        ```python
        from thingsvision_client import ImageDataset

        dataset = ImageDataset(root="images", out_path="results", backend="pt")
        print(len(dataset), dataset.classes, dataset.targets.shape)
        ```

    """

    def __init__(
        self,
        root: str | Path,
        out_path: str | Path,
        backend: str,
        class_names: Sequence[str] | None = None,
        file_names: Sequence[str] | None = None,
        transforms: ServerTransforms | None = None,
    ) -> None:
        self.transforms = as_transforms(transforms)
        self.backend = check_backend(backend)
        self.root = Path(root)
        self.names: list[str] = image_names(self.root, class_names, file_names)
        self.classes: list[str] = _classes(self.root, class_names, self.names)
        write_lines(Path(out_path) / FILE_NAMES, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> str:
        """Return the name of a row's image."""
        return self.names[row]

    @property
    def images(self) -> list[str]:
        """The paths of the images."""
        return [str(self.root / name) for name in self.names]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The class number of each image, N x 1: the position of its class in `classes`."""
        import numpy as np

        numbers = {name: number for number, name in enumerate(self.classes)}
        classes = [_class_of(name, numbers) for name in self.names]
        return np.array(classes, dtype=np.int64).reshape(-1, 1)

    def queue(self, rows: slice = _ALL) -> ImageQueue:
        """Return the images of some rows, to be sent by a method of `Client`.

        Args:
            rows: The rows to send; all by default.

        Returns:
            The images, each read only when it is sent.

        Example:
            ```python
            from thingsvision_client import Client, ImageDataset

            dataset = ImageDataset("photos", "results", "pt")
            first_two = dataset.queue(slice(0, 2))
            print(Client().extract("torchvision/alexnet", first_two, "features.10").images)
            ```

        """
        return queue_files(self.root, self.names[rows])


Dataset = ImageDataset | HDF5Dataset


class ImageBatch(list[str]):
    """The image names of one forward pass; `queue` returns the images, to be sent."""

    def __init__(self, names: Sequence[str], dataset: Dataset, rows: slice) -> None:
        super().__init__(names)
        self.dataset = dataset
        self._rows = rows

    def queue(self) -> ImageQueue:
        """Return the images to send."""
        return self.dataset.queue(self._rows)


class DataLoader:
    """A dataset, split into batches: one batch is one forward pass, for reproducible bits.

    `len()` is the number of batches. Iterating yields the image names of each batch, which
    `Extractor.extract_batch` takes.

    Args:
        dataset: An ImageDataset or HDF5Dataset.
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

    def __init__(self, dataset: Dataset, batch_size: int, backend: str) -> None:
        if not isinstance(dataset, (ImageDataset, HDF5Dataset)):
            raise TypeError(
                f"`dataset` must be an ImageDataset or HDF5Dataset, got {type(dataset).__name__}; "
                "pass batches of your own dataset to extract_features directly"
            )
        if batch_size < 1:
            raise InvalidRequestError(f"`batch_size` must be at least 1, got {batch_size}.")
        if check_backend(backend) != dataset.backend:
            raise InvalidRequestError(
                f"`backend` must be {dataset.backend!r}, as in the dataset, got {backend!r}."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.backend = backend

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[ImageBatch]:
        names = self.dataset.names
        for start in range(0, len(names), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield ImageBatch(names[rows], self.dataset, rows)


def load_batches(
    root: str | Path,
    out_path: str | Path,
    backend: str,
    batch_size: int,
    class_names: Sequence[str] | None = None,
    file_names: Sequence[str] | None = None,
    transforms: ServerTransforms | None = None,
) -> DataLoader:
    """Return a DataLoader of an ImageDataset, in one call.

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt`, which has the name of each row's image.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        batch_size: Images in a batch, at least 1.
        class_names: Class folders to use, in this order; all of them, sorted, by default.
        file_names: Images relative to `root`, in exactly this order; all, sorted, by default.
        transforms: What the extractor's `get_transformations` returned; None means the model's own
            preprocessing.

    Returns:
        The batches, for `Extractor.extract_features`.

    Raises:
        InvalidRequestError: Names that do not exist, an unknown backend, or a batch size below 1.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        batches = load_batches("images", "results", extractor.get_backend(), batch_size=32)
        print(extractor.extract_features(batches, "features.10").shape)
        ```

    """
    dataset = ImageDataset(
        root,
        out_path,
        backend,
        class_names=class_names,
        file_names=file_names,
        transforms=transforms,
    )
    return DataLoader(dataset, batch_size, backend)


def _classes(root: Path, class_names: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    if class_names is not None:
        return list(class_names)
    if not any("/" in name for name in names):
        return list(dict.fromkeys(names))
    named = {name.partition("/")[0] for name in names}
    return sorted(named.union(class_folders(root)))


def _class_of(name: str, classes: Mapping[str, int]) -> int:
    while name not in classes:
        name = name.rpartition("/")[0]
    return classes[name]
