"""An array of images in an HDF5 file, read image by image as it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError, MissingDependencyError
from .image import ImageContent, SentImage
from .png import png_of

_MOST_NAMED = 5


class PixelArray:
    """A dataset of an HDF5 file: uint8, images x height x width (x channels), or x pixels.

    Raises InvalidRequestError if it is not such an array, MissingDependencyError without h5py.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        with self._open_file() as file:
            dataset = self._dataset(file)
            self.count = int(dataset.shape[0])
            self._shape = _image_shape(dataset, f"{key!r} in {path}")

    def check_indices(self, indices: Sequence[int] | None) -> list[int]:
        """Return the indices of images to send: these, or all. Raises InvalidRequestError."""
        if indices is None:
            return list(range(self.count))
        wanted = [int(index) for index in indices]
        if wrong := [index for index in wanted if not 0 <= index < self.count]:
            raise InvalidRequestError(
                f"`img_indices` must be from 0 to {self.count - 1}, the images of {self._key!r} in "
                f"{self._path}, got {wrong[:_MOST_NAMED]}."
            )
        if not wanted:
            raise InvalidRequestError("`img_indices` must have at least one index, got none.")
        return wanted

    def images(self, indices: Sequence[int]) -> Iterator[SentImage]:
        """Yield the images as they are sent; the file stays open until the last one."""
        with self._open_file() as file:
            dataset = self._dataset(file)
            for index in indices:
                yield SentImage(str(index), partial(self._png, dataset, index))

    def image(self, index: int) -> SentImage:
        """Return one image, for which the file is opened when it is sent."""
        return SentImage(str(index), partial(self._read_png, index))

    def _read_png(self, index: int) -> ImageContent:
        with self._open_file() as file:
            return self._png(self._dataset(file), index)

    def _png(self, dataset: Any, index: int) -> ImageContent:
        return ImageContent(png_of(dataset[index].reshape(self._shape)))

    def _open_file(self) -> Any:
        try:
            import h5py
        except ImportError as error:
            raise MissingDependencyError(
                "HDF5Dataset needs h5py: pip install 'thingsvision-service[hdf5]'."
            ) from error
        try:
            return h5py.File(self._path, "r")
        except OSError as error:
            raise InvalidRequestError(f"Can't read {self._path} as HDF5: {error}") from error

    def _dataset(self, file: Any) -> Any:
        found = file.get(self._key)
        if not hasattr(found, "shape"):
            raise InvalidRequestError(
                f"{self._path} has no array {self._key!r}; it has {', '.join(file)}."
            )
        return found


def _image_shape(dataset: Any, called: str) -> tuple[int, ...]:
    shape = tuple(dataset.shape[1:])
    side = isqrt(shape[0] // 3) if len(shape) == 1 else 0
    if len(shape) == 1 and 3 * side * side == shape[0]:
        shape = (side, side, 3)
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    if str(dataset.dtype) != "uint8" or not is_image or not dataset.size:
        raise InvalidRequestError(
            f"{called} must be uint8 images, N x height x width x 3, N x height x width (grey), or "
            f"N x pixels of square RGB images, got {dataset.dtype} of shape {tuple(dataset.shape)}."
        )
    return shape
