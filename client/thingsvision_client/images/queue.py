"""Images to send: names, and bytes that are read only when they go out; decodes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, Union

from thingsvision_proto.model_id import ANY_MODEL
from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import ImageError, InvalidRequestError
from .folder import image_names
from .postscript import read_image

Request = TypeVar("Request")

ImageLike = Union[str, Path, "tuple[str, bytes]", "tuple[str, Any]"]
"""A file, a name and the bytes of a file, or a name and an array that is an input already."""

Images = Union[str, Path, "Iterable[ImageLike]", Any]
"""A folder, a file, any iterable of images (a generator is read as it is sent), or an array of
images x one input's shape, which names its rows 0, 1, ..."""


MAX_IMAGE_BYTES = 63 * 1024 * 1024
"""Length of the largest image that fits a message, which has a name and an index beside it."""


@dataclass(frozen=True)
class SentImage:
    """An image as it goes out, or a text in its place.

    `read` gives what `kind`, a field of the contract's Image, holds: file bytes (`encoded`), values
    of an array of `shape` (`tensor`), or a string (`text`, `server_path`). It raises OSError where
    a file can't be read, InvalidRequestError where values can't be sent.
    """

    name: str
    read: Callable[[], bytes | str]
    kind: str = "encoded"
    shape: tuple[int, ...] | None = None

    def to_message(self, index: int) -> pb.Image:
        """Return the message, with the bytes. Raises ImageError."""
        try:
            content = self.read()
            message = pb.Image(index=index, name=self.name)
            setattr(message, self.kind, content)
            byte_count = len(content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise self.error(f"can't be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            what = "is a text" if self.kind == "text" else "has a name"
            raise self.error(f"{what} that is not UTF-8: change it") from error
        except InvalidRequestError as error:
            raise self.error(str(error)) from error
        if byte_count > MAX_IMAGE_BYTES:
            raise self.error(f"has more than {MAX_IMAGE_BYTES} bytes: send a smaller one")
        return message

    def error(self, fault: str) -> ImageError:
        """Return what says that this image has a fault."""
        return ImageError(f"Image {self.name!r} {fault}.", subject=self.name)


class KeptImages(Protocol):
    """Knows which files a server has, so that they need not be sent."""

    def sent(self, images: Iterable[pb.Image], model_id: str = ...) -> Iterator[pb.Image]:
        """Yield the images as they are to be sent, in their order."""

    def switch_off(self) -> None:
        """Have all later images sent."""


@dataclass(frozen=True)
class Reread:
    """Images that `opening` gives anew, from the first on, each time they are gone through."""

    opening: Callable[[], Iterator[SentImage]]

    def __iter__(self) -> Iterator[SentImage]:
        return self.opening()


@dataclass
class ImageQueue:
    """Images on their way: how many there will be, and the names of those sent but not answered.

    `tensor_shape` is that of every image where they are inputs already, else None. `was_named` says
    that the server was told the SHA-256 of one in the place of its file.
    """

    images: Iterable[SentImage]
    count: int | None = None
    tensor_shape: tuple[int, ...] | None = None
    unanswered: deque[str] = field(default_factory=deque)
    kept: KeptImages | None = None
    """Knows what the server has, so that it need not be sent."""
    was_named: bool = False

    def messages(self, model_id: str = ANY_MODEL) -> Iterator[pb.Image]:
        """Yield the images in order, each read when it is asked for. Raises ImageError.

        `model_id` is that of the model that they are for.
        """
        # A stream without an end may be slow: its images go out one by one.
        if self.kept is None or self.count is None or self.tensor_shape is not None:
            yield from self._read()
            return
        for image in self.kept.sent(self._read(), model_id):
            self.was_named = self.was_named or bool(image.kept_sha256)
            yield image

    def requests(
        self, request: Callable[..., Request], header: Any, model_id: str = ANY_MODEL
    ) -> Iterator[Request]:
        """Yield the messages of a call: `request` with the header, then with each image."""
        yield request(header=header)
        for image in self.messages(model_id):
            yield request(image=image)

    def with_files(self) -> ImageQueue | None:
        """Return the same from the first image on, to be sent as files whatever the server keeps.

        None where all went out as files already, or the images can't be read a second time.
        """
        if not self.was_named or not can_be_reread(self.images):
            return None
        return replace(self, unanswered=deque(), kept=None, was_named=False)

    def _read(self) -> Iterator[pb.Image]:
        for index, image in enumerate(self.images):
            if image.shape != self.tensor_shape:
                found, first = _described(image.shape), _described(self.tensor_shape)
                raise image.error(f"is {found}, the first one {first}: all have to be alike")
            message = image.to_message(index)
            self.unanswered.append(image.name)
            yield message


def can_be_reread(images: Iterable[SentImage]) -> bool:
    """Whether going through images a second time gives them all; an iterator is at its end."""
    return iter(images) is not images


def _described(shape: tuple[int, ...] | None) -> str:
    return "a file" if shape is None else f"an array of {' x '.join(map(str, shape))}"


def queue_images(images: Images) -> ImageQueue:
    """Return the images to send; files are not opened yet, of a generator the first is taken.

    A folder gives its images in the order of `folder.image_names`, named relative to it; a file is
    named as it was given. Raises InvalidRequestError where there are no images, and TypeError for
    what is no image.
    """
    if isinstance(images, (str, Path)):
        return _queue_path(Path(images), str(images))
    if hasattr(images, "__array__"):
        images = _rows(images)
    count = len(images) if isinstance(images, Collection) else None
    sent = map(_as_image, images if count is None else list(images))
    first = next(sent, None)
    if first is None:
        raise InvalidRequestError("There are no images to send.")
    # What is no image is told before anything is sent, where all are there.
    all_images = chain([first], sent) if count is None else [first, *sent]
    return ImageQueue(all_images, count, first.shape)


def kept_queue(images: Images | ImageQueue, kept: KeptImages) -> ImageQueue:
    """Return the images to send, as `queue_images` does, without those that the server keeps."""
    queue = images if isinstance(images, ImageQueue) else queue_images(images)
    queue.kept = kept
    return queue


def server_image(path: str) -> SentImage:
    """Return an image of the server's image root, by its path there."""
    return SentImage(path, partial(str, path), "server_path")


def queue_files(root: Path, names: Collection[str]) -> ImageQueue:
    """Return the files of these names below `root`, in this order."""

    def files() -> Iterator[SentImage]:
        return (SentImage(name, partial(read_image, root / name)) for name in names)

    return ImageQueue(Reread(files), len(names))


def _queue_path(path: Path, name: str) -> ImageQueue:
    if path.is_dir():
        return queue_files(path, image_names(path))
    return ImageQueue([SentImage(name, partial(read_image, path))], 1)


def _rows(images: Any) -> list[tuple[str, Any]]:
    from ..arrays import as_array  # loads numpy, which files do not need

    array = as_array(images)
    if array.ndim != 4:
        raise InvalidRequestError(
            f"An array of inputs is images x one input's shape, 4-D, such as N x 3 x 224 x 224; "
            f"not of shape {array.shape}."
        )
    return [(str(row), values) for row, values in enumerate(array)]


def _as_image(image: Any) -> SentImage:
    if isinstance(image, SentImage):
        return image
    if isinstance(image, (str, Path)):
        return SentImage(str(image), partial(read_image, Path(image)))
    if isinstance(image, tuple) and len(image) == 2 and isinstance(image[0], str):
        name, content = image
        if isinstance(content, bytes):
            return SentImage(name, partial(bytes, content))
        if hasattr(content, "__array__"):
            return _as_tensor(name, content)
    raise TypeError(
        f"{type(image).__name__} is no image: give the path of an image file, a pair (name, bytes "
        "of an image file), or a pair (name, array) where the array is the model's input already."
    )


def _as_tensor(name: str, values: Any) -> SentImage:
    from ..arrays import as_array
    from .tensors import tensor_bytes

    array = as_array(values)
    image = SentImage(name, partial(tensor_bytes, array), "tensor", array.shape)
    if not array.size or not array.ndim:
        raise image.error(f"is an array of shape {array.shape}, which is no input")
    return image
