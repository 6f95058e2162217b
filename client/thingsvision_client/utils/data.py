"""Image datasets in a fixed order of rows; no image is opened before it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, overload

from ..calls.arguments import as_folder, as_path, expand_home
from ..calls.signatures import check_arguments
from ..display.cards import Shown
from ..errors import LEFT_OUT, BadImage
from ..files import SKIPPED, write_skipped
from ..images.folder import class_folders, class_of, class_paths, image_names
from ..images.image import SentImage, file_image
from ..images.inspection import with_holes
from ..images.queue import ImageQueue, Reiterable, queue_files
from ..old_paths import add_old_paths
from .data_loader import DataLoader
from .file_names import FILE_NAMES, file_names_of, write_lines
from .hdf5_dataset import HDF5Dataset
from .joined_datasets import Joinable
from .rows import DatasetImage, FixedAttributes, ImageBatch, row_at
from .transforms import as_transforms, check_backend

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "DataLoader",
    "HDF5Dataset",
    "ImageBatch",
    "ImageDataset",
    "load_batches",
]

_ALL = slice(None)


@check_arguments
class ImageDataset(Shown, FixedAttributes, Joinable):
    """The images below a folder, in a fixed order that is written to `file_names.txt`.

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt`, which has the name of each row's image: of images in
            class folders the path, `root` included. None writes none.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        class_names: Class folders to use, in this order; all of them, sorted, by default.
        file_names: Images below `root`, in exactly this order; all, sorted, by default. Absolute
            paths, `..`, backslashes and the lines of a `file_names.txt` are spellings of the same
            names.
        transforms: What an extractor's `get_transformations` returned, of this model or another, or
            a Compose of torchvision's steps; None means the model's own preprocessing. The server
            applies it.

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

    _fields = frozenset({"backend", "root", "names", "classes"})
    _checked: ClassVar = {"transforms": as_transforms}

    def __init__(
        self,
        root: str | Path,
        out_path: str | Path | None,
        backend: str,
        class_names: Sequence[str] | None = None,
        file_names: Sequence[str] | None = None,
        transforms: Any = None,
    ) -> None:
        self.transforms = as_transforms(transforms)
        self.backend = check_backend(backend)
        self.root = as_path("root", root)
        self.names: list[str] = image_names(self.root, class_names, file_names)
        self.classes: list[str] = _classes(self.root, class_names, self.names)
        self._numbers: dict[str, int] = {}
        self._numbered: list[str] | None = None  # the classes of these numbers
        self._out_path = None if out_path is None else as_folder("out_path", out_path)
        self._given_root = expand_home(root)
        self._given = self.names
        self._skipped: dict[int, BadImage] = {}
        if self._out_path is not None:
            self.write_names(self._out_path)

    def write_names(self, folder: Path) -> None:
        """Write `file_names.txt`, and `skipped.txt` if images were left out, to a folder.

        Args:
            folder: The folder, created if missing.

        Example:
            ```python
            from pathlib import Path
            from thingsvision_client import ImageDataset

            dataset = ImageDataset("photos", None, "pt")
            dataset.write_names(Path("results"))
            ```

        """
        write_lines(folder / FILE_NAMES, file_names_of(self._given_root, self.names))
        if self._skipped:
            write_skipped(folder / SKIPPED, self.skipped)

    def _facts(self) -> dict[str, Any]:
        return {
            "images": len(self),
            "classes": len(self.classes) if self.classes != self.names else None,
            "root": str(self.root),
            "backend": self.backend,
            "first": self.names[0] if self.names else None,
        }

    def __len__(self) -> int:
        return len(self.names)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images that were left out, which have no row: place, name and reason of each."""
        return tuple(one for _, one in sorted(self._skipped.items()))

    def leave_out(self, skipped: Sequence[BadImage]) -> None:
        """Leave images that can't be used out of the rows: of `names`, `targets` and the files.

        `file_names.txt` is written anew, and `skipped.txt` beside it. Batches keep their places:
        the features of the other images have the same bits. `extract_features(on_error="skip")`
        does so.

        Args:
            skipped: The images; their places are in the list of images as the dataset was made.

        Example:
            ```python
            from thingsvision_client import ImageDataset
            from thingsvision_client.errors import BadImage

            dataset = ImageDataset("photos", "results", "pt")
            dataset.leave_out([BadImage(0, dataset.names[0], "is a duplicate")])
            print(len(dataset), dataset.skipped)
            ```

        """
        found = self._skipped | {one.place: one for one in skipped if not one.is_known}
        if found == self._skipped:
            return
        self._skipped = found
        kept = [name for place, name in enumerate(self._given) if place not in found]
        vars(self)["names"] = kept
        if not any("/" in name for name in self._given):
            vars(self)["classes"] = list(dict.fromkeys(kept))
        if self._out_path is not None:
            self.write_names(self._out_path)

    @overload
    def __getitem__(self, row: int) -> DatasetImage: ...

    @overload
    def __getitem__(self, row: slice) -> list[DatasetImage]: ...

    def __getitem__(self, row: int | slice) -> DatasetImage | list[DatasetImage]:
        """Return the input of a row's image, which knows the image and its class number."""
        if isinstance(row, slice):
            return [self.row(place) for place in range(len(self))[row]]
        return self.row(row)

    def row(self, row: int) -> DatasetImage:
        """Return the input of a row's image, made by the server when its values are used.

        Args:
            row: Number of the row.

        Returns:
            The input, which knows its `name`, its `target`, and the image to send.

        Example:
            ```python
            from thingsvision_client import ImageDataset, get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            transforms = extractor.get_transformations()
            dataset = ImageDataset("images", "results", "pt", transforms=transforms)
            print(dataset.row(0).name, dataset.row(0).target, dataset[0].shape)
            ```

        """
        name = row_at(self.names, row)
        return DatasetImage(
            file_image(name, self.root / name),
            target=self.class_number(name),
            transforms=self.transforms,
            root=self.root,
            backend=self.backend,
        )

    @property
    def images(self) -> list[str]:
        """The paths of the images."""
        return [str(self.root / name) for name in self.names]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The class number of each image, N x 1: the position of its class in `classes`."""
        import numpy as np

        numbers = [self.class_number(name) for name in self.names]
        return np.array(numbers, dtype=np.int64).reshape(-1, 1)

    def class_number(self, name: str) -> int:
        """Return the class number of an image: the position of its class in `classes`.

        Args:
            name: Name of the image, as in `names`.

        Returns:
            The number, from 0.

        Example:
            ```python
            from thingsvision_client import ImageDataset

            dataset = ImageDataset("images", "results", "pt")
            print({name: dataset.class_number(name) for name in dataset.names})
            ```

        """
        if self._numbered is not self.classes:
            self._numbers = {found: number for number, found in enumerate(self.classes)}
            self._numbered = self.classes
        return self._numbers[class_of(name, self._numbers) or ""]

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
        if rows != _ALL or not self._skipped:
            return queue_files(self.root, self.names[rows])
        return self.place_queue(_ALL)

    @property
    def place_count(self) -> int:
        """The number of images as the dataset was made, with those left out since."""
        return len(self._given)

    @property
    def places(self) -> list[int]:
        """The place of each row's image in the list of images as the dataset was made."""
        return [place for place in range(self.place_count) if place not in self._skipped]

    def place_rows(self, places: slice) -> list[DatasetImage]:
        """Return the rows at some places; images that were left out have none.

        Args:
            places: Places in the list of images as the dataset was made.

        Returns:
            The rows.

        Example:
            ```python
            from thingsvision_client import ImageDataset

            print(ImageDataset("photos", "results", "pt").place_rows(slice(0, 2)))
            ```

        """
        row_of = {place: row for row, place in enumerate(self.places)}
        asked = range(self.place_count)[places]
        return [self.row(row_of[place]) for place in asked if place in row_of]

    def place_queue(self, places: slice) -> ImageQueue:
        """Return the images at some places, to be sent, with holes for those that were left out.

        Args:
            places: Places in the list of images as the dataset was made.

        Returns:
            The images.

        Example:
            ```python
            from thingsvision_client import Client, ImageDataset

            images = ImageDataset("photos", "results", "pt").place_queue(slice(0, 2))
            print(Client().extract("torchvision/alexnet", images, "features.10").images)
            ```

        """
        numbers = range(self.place_count)[places]
        left_out = {
            at: replace(
                self._skipped[place], reason=f"{LEFT_OUT}: it {self._skipped[place].reason}"
            )
            for at, place in enumerate(numbers)
            if place in self._skipped
        }
        images = Reiterable(partial(self._images_at, numbers))
        return with_holes(ImageQueue(images, len(numbers)), left_out)

    def _images_at(self, places: range) -> Iterator[SentImage]:
        for place in places:
            name = self._given[place]
            yield file_image(name, self.root / name)


@check_arguments
def load_batches(
    root: str | Path,
    out_path: str | Path,
    backend: str,
    batch_size: int,
    class_names: Sequence[str] | None = None,
    file_names: Sequence[str] | None = None,
    transforms: Any = None,
) -> DataLoader:
    """Return a DataLoader of an ImageDataset, in one call.

    Args:
        root: Folder of images, or of class folders.
        out_path: Folder for `file_names.txt`, which has the name of each row's image.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        batch_size: Images in a batch, at least 1.
        class_names: Class folders to use, in this order; all of them, sorted, by default.
        file_names: Images below `root`, in exactly this order; all, sorted, by default. Absolute
            paths, `..` and backslashes are spellings of the same names.
        transforms: What an extractor's `get_transformations` returned, of this model or another, or
            a Compose of torchvision's steps; None means the model's own preprocessing.

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
        return class_paths(root, class_names)
    if not any("/" in name for name in names):
        return list(dict.fromkeys(names))
    named = {name.partition("/")[0] for name in names}
    return sorted(named.union(class_folders(root)))


add_old_paths(__name__)
