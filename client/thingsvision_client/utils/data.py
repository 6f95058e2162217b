"""Images of a study, in the order of their rows; opens none before it is sent, knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..files import replacing
from ..images.folder import class_folders, image_names
from ..images.pixel_array import PixelArray
from ..images.queue import ImageQueue, Reread, queue_files
from ..values.preprocessing import PreprocessingOverrides
from ..values.records import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BACKENDS = ("pt", "tf")

FILE_NAMES = "file_names.txt"

_ALL = slice(None)


@dataclass(frozen=True, repr=False)
class ServerTransforms:
    """Stands for the model's own preprocessing, which the server applies, and changes of it.

    `own` is None where the server tells it only with the features.
    """

    overrides: PreprocessingOverrides | None = None
    own: Preprocessing | None = None

    def __repr__(self) -> str:
        steps = " ".join(self.own.description.split()) if self.own else ""
        own = f"the model's own, {steps}" if steps else "the model's own"
        changes = f", but with {self.overrides}" if self.overrides else ""
        return f"ServerTransforms({own}{changes})"


class ImageDataset:
    """The images below a folder; writes `file_names.txt` to `out_path`, a line per row.

    Folders in `root` are classes (sorted, or `class_names` in that order), each walked sorted;
    without folders its sorted files. `file_names`, relative to `root`, gives exactly that order.
    `transforms` is None for the model's own preprocessing, or what an extractor's
    `get_transformations` returned; the server applies it. `classes` are the classes' names (in a
    folder without any every image is its own class). Raises InvalidRequestError, also for names
    that are not there.
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
        self.transforms = _checked_transforms(transforms)
        self.backend = _checked_backend(backend)
        self.root = Path(root)
        self.names: list[str] = image_names(self.root, class_names, file_names)
        self.classes: list[str] = _classes(self.root, class_names, self.names)
        write_lines(Path(out_path) / FILE_NAMES, self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> str:
        """Return the name of the image of a row."""
        return self.names[row]

    @property
    def images(self) -> list[str]:
        """The paths of the images."""
        return [str(self.root / name) for name in self.names]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The class of each image, N x 1: where its name is in `classes`."""
        import numpy as np

        numbers = {name: number for number, name in enumerate(self.classes)}
        classes = [_class_of(name, numbers) for name in self.names]
        return np.array(classes, dtype=np.int64).reshape(-1, 1)

    def queue(self, rows: slice = _ALL) -> ImageQueue:
        """Return the images of rows, to be sent."""
        return queue_files(self.root, self.names[rows])


class HDF5Dataset:
    """Images in an array of an HDF5 file (such as NSD's `imgBrick`); a row's name is its index.

    The array is uint8: images x height x width x channels (grey without; 3: RGB), or images x
    pixels of square RGB images. `img_indices` gives exactly these images in this order.
    `transforms` is as in ImageDataset. `file_names.txt` is written where there is an `out_path`.
    Raises InvalidRequestError, and MissingDependencyError without h5py.
    """

    root: Path | None = None

    def __init__(
        self,
        hdf5_fp: str | Path,
        img_ds_key: str,
        backend: str,
        transforms: ServerTransforms | None = None,
        img_indices: Sequence[int] | None = None,
        *,
        out_path: str | Path | None = None,
    ) -> None:
        self.transforms = _checked_transforms(transforms)
        self.backend = _checked_backend(backend)
        self._array = PixelArray(Path(hdf5_fp), img_ds_key)
        self.indices = self._array.checked(img_indices)
        if out_path is not None:
            write_lines(Path(out_path) / FILE_NAMES, self.names)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> str:
        """Return the name of the image of a row."""
        return self.names[row]

    @property
    def names(self) -> list[str]:
        """The names of the rows: the images' indices in the file."""
        return [str(index) for index in self.indices]

    def queue(self, rows: slice = _ALL) -> ImageQueue:
        """Return the images of rows, to be sent as PNG files, which lose nothing."""
        indices = self.indices[rows]
        return ImageQueue(Reread(partial(self._array.images, indices)), len(indices))


Dataset = ImageDataset | HDF5Dataset


class ImageBatch(list[str]):
    """The names of images that make a forward pass; `queue` gives the images, to be sent."""

    def __init__(self, names: Sequence[str], dataset: Dataset, rows: slice) -> None:
        super().__init__(names)
        self.dataset = dataset
        self._rows = rows

    def queue(self) -> ImageQueue:
        """Return the images to send."""
        return self.dataset.queue(self._rows)


class DataLoader:
    """A dataset and the number of its images in one forward pass, for reproducible bits.

    `len` is the number of batches; iterating gives the names of the images of each, which
    `Extractor.extract_batch` takes.
    """

    def __init__(self, dataset: Dataset, batch_size: int, backend: str) -> None:
        if not isinstance(dataset, (ImageDataset, HDF5Dataset)):
            raise TypeError(
                f"dataset is an ImageDataset or HDF5Dataset, not {type(dataset).__name__}; batches "
                "of a dataset of your own need no DataLoader of this package"
            )
        if batch_size < 1:
            raise InvalidRequestError(f"batch_size is at least 1, not {batch_size}.")
        if _checked_backend(backend) != dataset.backend:
            raise InvalidRequestError(
                f"backend is {dataset.backend!r} in the dataset, but {backend!r} here."
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
    """Return a DataLoader of an ImageDataset, in one call."""
    dataset = ImageDataset(root, out_path, backend, class_names, file_names, transforms)
    return DataLoader(dataset, batch_size, backend)


def write_lines(path: Path, names: Sequence[str]) -> None:
    """Write a line per row of features; an older file stays until the new one is complete.

    Raises InvalidRequestError for a name with a line break, and for one that is not UTF-8.
    """
    if broken := [name for name in names if "\n" in name or "\r" in name]:
        what = f"{broken[0]!r} has a line break, but {path.name} has a line per row"
        raise InvalidRequestError(f"{what}: change it.")
    lines = "".join(f"{name}\n" for name in names)
    try:
        content = lines.encode()
    except UnicodeEncodeError as error:  # a file's name on Linux may be any bytes
        wrong = names[lines.count("\n", 0, error.start)]
        raise InvalidRequestError(f"{wrong!r} is a name that is not UTF-8: change it.") from error
    with replacing(path) as file:
        file.write(content)


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


def _checked_transforms(transforms: Any) -> ServerTransforms:
    if transforms is not None and not isinstance(transforms, ServerTransforms):
        raise InvalidRequestError(
            "transforms of your own can't run on the server: leave them out, or pass what "
            "extractor.get_transformations(...) returns, for the model's own preprocessing "
            "or sizes that you choose."
        )
    return transforms or ServerTransforms()


def _checked_backend(backend: Any) -> str:
    if backend not in BACKENDS:
        raise InvalidRequestError(f"backend is one of {', '.join(BACKENDS)}, not {backend!r}.")
    return str(backend)
