"""An array of images in an HDF5 file, read image by image as it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..calls.arguments import as_texts
from ..calls.wording import quote
from ..errors import InvalidRequestError, MissingDependencyError
from .image import ImageContent, SentImage
from .indices import indices_of
from .pixel_axes import find_layout
from .png import png_of
from .queue import ImageQueue, Reiterable


class PixelArray:
    """A dataset of an HDF5 file, uint8, whose axes `layout` names: None finds them out.

    `names` has an entry per image; None means their indices. Raises InvalidRequestError if it is
    not an array of images, its layout can't be known, or names are missing, and
    MissingDependencyError without h5py.
    """

    def __init__(
        self, path: Path, key: str, layout: str | None = None, names: Sequence[str] | None = None
    ) -> None:
        self._path = path
        self.key = key
        self.called = f"{key!r} in {path}"
        with self._open_file() as file:
            dataset = self._dataset(file)
            _check_pixels(dataset, self.called)
            self.layout = find_layout(dataset, self.called, layout)
        self.count = self.layout.count
        self._names = None if names is None else as_texts("names", names)
        if self._names is not None and len(self._names) != self.count:
            raise InvalidRequestError(
                f"`names` must have an entry per image of {self.called} ({self.count}), got "
                f"{len(self._names)}."
            )

    def __str__(self) -> str:
        """Say what was taken for what, and why."""
        return f"{self.called}: {self.layout}, layout {self.layout.axes!r} {self.layout.reason}"

    def check_indices(self, indices: Any) -> list[int]:
        """Return the indices of images to send: these, those of a mask, or all.

        Raises InvalidRequestError.
        """
        if indices is None:
            return list(range(self.count))
        return indices_of("img_indices", indices, self.count, self.called)

    def name(self, index: int) -> str:
        """Return the name of an image."""
        return str(index) if self._names is None else self._names[index]

    def queue(self, indices: Sequence[int]) -> ImageQueue:
        """Return images to send, in this order."""
        return ImageQueue(Reiterable(partial(self.images, indices)), len(indices))

    def images(self, indices: Sequence[int]) -> Iterator[SentImage]:
        """Yield the images as they are sent; the file stays open until the last one."""
        with self._open_file() as file:
            dataset = self._dataset(file)
            for index in indices:
                yield SentImage(self.name(index), partial(self._png, dataset, index))

    def image(self, index: int) -> SentImage:
        """Return one image, for which the file is opened when it is sent."""
        return SentImage(self.name(index), partial(self._read_png, index))

    def _read_png(self, index: int) -> ImageContent:
        with self._open_file() as file:
            return self._png(self._dataset(file), index)

    def _png(self, dataset: Any, index: int) -> ImageContent:
        return ImageContent(png_of(self.layout.read(dataset, index)))

    def _open_file(self) -> Any:
        return _open(self._path)

    def _dataset(self, file: Any) -> Any:
        found = file.get(self.key)
        if not hasattr(found, "shape"):
            has = quote(_array_keys(file)) or "no arrays"
            raise InvalidRequestError(f"{self._path} has no array {self.key!r}; it has {has}.")
        return found


def find_key(path: Path, option: str) -> str:
    """Return the name of the only array of images, uint8 with at least two axes.

    Raises InvalidRequestError if there is none, or several; `option` is what chooses.
    """
    with _open(path) as file:
        found = [key for key in _array_keys(file) if _may_be_images(file[key])]
    if len(found) != 1:
        what = f"several arrays, {quote(found)}: choose by {option}" if found else "no array"
        raise InvalidRequestError(f"{path} must have an array of images (uint8), got {what}.")
    return found[0]


def _may_be_images(dataset: Any) -> bool:
    return str(dataset.dtype) == "uint8" and dataset.ndim > 1


def _array_keys(file: Any) -> list[str]:
    """Return the names of all arrays, without those that MATLAB hides."""
    found: list[str] = []

    def note(name: str, entry: Any) -> None:
        if hasattr(entry, "shape") and not name.startswith("#"):
            found.append(name)

    file.visititems(note)
    return found


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "HDF5Dataset needs h5py: pip install 'thingsvision-service[hdf5]'."
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        why = error.strerror if error.errno and not path.is_file() else "it is of another format"
        raise InvalidRequestError(f"Can't read {path} as HDF5: {why}.") from error


def _check_pixels(dataset: Any, called: str) -> None:
    matlab = dataset.attrs.get("MATLAB_class", b"")
    matlab = matlab.decode() if isinstance(matlab, bytes) else str(matlab)
    if matlab == "cell":
        raise InvalidRequestError(
            f"{called} is a cell array of MATLAB: save one array instead, cat(4, images{{:}})."
        )
    if dataset.shape and not dataset.size:
        raise InvalidRequestError(f"{called} has no values: its shape is {dataset.shape}.")
    if str(dataset.dtype) != "uint8" or matlab == "logical" or not dataset.size:
        what = "logical" if matlab == "logical" else dataset.dtype
        raise InvalidRequestError(
            f"{called} must be uint8 images, such as N x height x width x 3, got {what} of shape "
            f"{tuple(dataset.shape or ())}: save pixels from 0 to 255 as uint8."
        )
