"""Images to send, in order: files, arrays or texts, opened only when they go out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from itertools import count as numbers
from pathlib import Path
from typing import Any, Union

from ..arrays import Array, as_array
from ..calls.arguments import expand_home, told
from ..errors import InvalidRequestError
from ..values.cores import Cores
from ..values.servers import ANY, Aim, ServerFacts
from .folder import image_names
from .image import ImageContent, ImageOfDataset, ImagesOfDataset, SentImage, file_image
from .pictures import are_pictures, is_picture, picture
from .tensors import tensor_bytes

ImageLike = Union[str, Path, "tuple[str, bytes]", "tuple[str, Any]", Any]
"""A file, an image in memory (of Pillow, or uint8 of height x width x 3), or a pair of a name and
the bytes of a file, an image in memory, or an array of floats that is an input already."""

Images = Union[str, Path, "Iterable[ImageLike]", Any]
"""A folder, a file, any iterable of images (a generator is read as it is sent), an image in memory,
or an array: of uint8, images x height x width x 3, or of floats, images x one input's shape. Images
without a name are named 0, 1, ..."""


@dataclass(frozen=True)
class Reiterable:
    """Images that `open_images` gives anew, from the first on, for each iteration."""

    open_images: Callable[[], Iterator[SentImage]]

    def __iter__(self) -> Iterator[SentImage]:
        return self.open_images()


@dataclass(frozen=True)
class ImageQueue:
    """Images to send, and how many there are, if that is known.

    `tensor_shape` is the shape of every image if they are inputs already, else None. `cores` are
    those of their passes if they are some images of an extraction that began earlier, None if they
    are all images. `here_count` is the number of images in a list of batches, which has no `count`
    because a job goes on when some of them are removed. `computed_by` is the server that computed
    the first rows, if these images are of an extraction that began earlier; `aim` is the server
    that may take them. Several calls may send the same queue at once, unless its images can be
    iterated only once.
    """

    images: Iterable[SentImage]
    count: int | None = None
    tensor_shape: tuple[int, ...] | None = None
    cores: Cores | None = None
    here_count: int = 0
    computed_by: ServerFacts | None = None
    aim: Aim = ANY

    @property
    def is_reiterable(self) -> bool:
        """Whether a second iteration gives all images again; an iterator is exhausted by then."""
        return iter(self.images) is not self.images

    def names(self) -> list[str] | None:
        """Return the names of all images; None if they are known only once read."""
        is_known = self.count is not None and self.is_reiterable
        return [image.name for image in self.images] if is_known else None


def queue_images(images: Images | ImageQueue) -> ImageQueue:
    """Return the images to send; opens no file, and takes only the first image of a generator.

    A folder gives its images in the order of `folder.image_names`, named relative to it; a file is
    named as it was given; a queue is returned as it is. Raises InvalidRequestError if there are no
    images, and TypeError for anything that is not an image.
    """
    if isinstance(images, ImageQueue):
        return images
    if isinstance(images, (str, Path)):
        return _queue_path(Path(expand_home(images)), str(expand_home(images)))
    if isinstance(images, ImagesOfDataset):
        images = images.rows
    elif isinstance(images, ImageOfDataset) or is_picture(images):
        images = [images]
    elif hasattr(images, "__array__"):
        images = _array_rows(images)
    elif not isinstance(images, Iterable) or isinstance(images, bytes):
        raise TypeError(
            "`images` must be a folder, a file, or a list of files, Pillow images or arrays, got "
            f"{told(images)}."
        )
    count = len(images) if isinstance(images, Collection) else None
    sent = map(_as_image, images if count is None else list(images), numbers())
    first = next(sent, None)
    if first is None:
        raise InvalidRequestError("There are no images to send.")
    # If all images are here, a wrong one is reported before anything is sent.
    all_images = chain([first], sent) if count is None else [first, *sent]
    return ImageQueue(all_images, count, first.shape)


def queue_files(root: Path, names: Collection[str]) -> ImageQueue:
    """Return the files of these names below `root`, in this order."""
    return ImageQueue(Reiterable(partial(_files, root, names)), len(names))


def _files(root: Path, names: Collection[str]) -> Iterator[SentImage]:
    return (file_image(name, root / name) for name in names)


def _queue_path(path: Path, name: str) -> ImageQueue:
    if path.is_dir():
        return queue_files(path, image_names(path))
    return ImageQueue([file_image(name, path)], 1)


def _array_rows(images: Any) -> list[tuple[str, Any]]:
    array = images if are_pictures(images) else as_array(images)
    if array.ndim != 4:
        raise InvalidRequestError(
            "An array of inputs must be 4-D, images x one input's shape, such as "
            f"N x 3 x 224 x 224, got {array.shape}."
        )
    return [(str(row), values) for row, values in enumerate(array)]


def _as_image(image: Any, number: int) -> SentImage:
    if isinstance(image, SentImage):
        return image
    if isinstance(image, ImageOfDataset):
        return _dataset_image(image)
    if isinstance(image, ImagesOfDataset):
        raise TypeError(
            "A batch of a DataLoader is not an image: give this call loader.queue(), or extract "
            "with an extractor (get_extractor), which takes the loader."
        )
    if isinstance(image, (str, Path)):
        image = expand_home(image)
        return file_image(str(image), Path(image))
    if is_picture(image):
        return picture(str(number), image)
    if isinstance(image, tuple) and len(image) == 2 and isinstance(image[0], str):
        name, content = image
        if isinstance(content, bytes):
            return SentImage(name, partial(ImageContent, content))
        if is_picture(content):
            return picture(name, content)
        if hasattr(content, "__array__"):
            return _as_tensor(name, content)
    raise TypeError(
        f"{_kind(image)} is not an image: give the path of an image file, a Pillow image, a uint8 "
        "array of height x width x 3, a pair (name, bytes of an image file), or a pair (name, "
        "array) if the array is the model's input already, of floats."
    )


def _kind(image: Any) -> str:
    if not hasattr(image, "__array__"):
        return type(image).__name__
    shape = " x ".join(map(str, image.shape))
    return f"{type(image).__name__} of {image.dtype}, {shape or 'a single value'},"


def _dataset_image(image: ImageOfDataset) -> SentImage:
    """Return a dataset's image. Raises InvalidRequestError if its preprocessing would be lost."""
    if image.needs_preprocessing:
        raise InvalidRequestError(
            f"Image {image.sent.name!r} is of a dataset with `transforms`, which this call "
            "can't see: use an extractor (get_extractor), or send dataset.queue() and pass "
            "`preprocessing`.",
            subject=image.sent.name,
        )
    return image.sent


def _as_tensor(name: str, values: Any) -> SentImage:
    array = as_array(values)
    image = SentImage(name, partial(_read_tensor, array), "tensor", array.shape)
    if not array.size or not array.ndim:
        raise image.error(f"must be an array with values, got shape {array.shape}")
    if array.dtype.kind in "iub":
        raise image.error(
            f"is an array of {array.dtype}, but an image must be uint8 of height x width x 3, and "
            "a model's input must be of floats. If it has pixels, convert it with astype('uint8') "
            "and send it as an image, which the server preprocesses; if it is an input, "
            "preprocess it: Client.preprocess gives inputs"
        )
    return image


def _read_tensor(array: Array) -> ImageContent:
    return ImageContent(tensor_bytes(array))
