"""Images to send: names, and bytes that are read only when they go out; decodes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Union

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .errors import ImageError, InvalidRequestError
from .folder import image_names

ImageLike = Union[str, Path, "tuple[str, bytes]"]
"""A file, or a name and the bytes of a file."""

Images = Union[str, Path, "Iterable[ImageLike]"]
"""A folder, a file, or any iterable of images; a generator is read as it is sent."""


MAX_IMAGE_BYTES = 63 * 1024 * 1024
"""Length of the largest file that fits a message, which has a name and an index beside it."""


@dataclass(frozen=True)
class SentImage:
    """An image as it goes out. `read` opens the file and raises OSError where it can't."""

    name: str
    read: Callable[[], bytes]

    def to_message(self, index: int) -> pb.Image:
        """Return the message, with the bytes. Raises ImageError."""
        try:
            message = pb.Image(index=index, name=self.name, encoded=self.read())
        except OSError as error:
            raise self._error(f"can't be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            raise self._error("has a name that is not UTF-8: rename it") from error
        if len(message.encoded) > MAX_IMAGE_BYTES:
            raise self._error(f"has more than {MAX_IMAGE_BYTES} bytes: send a smaller file")
        return message

    def _error(self, fault: str) -> ImageError:
        return ImageError(f"Image {self.name!r} {fault}.", subject=self.name)


@dataclass
class ImageQueue:
    """Images on their way: how many there will be, and the names of those sent but not answered."""

    images: Iterable[SentImage]
    count: int | None = None
    unanswered: deque[str] = field(default_factory=deque)

    def messages(self) -> Iterator[pb.Image]:
        """Yield the images in order, each read when it is asked for. Raises ImageError."""
        for index, image in enumerate(self.images):
            message = image.to_message(index)
            self.unanswered.append(image.name)
            yield message


def queue_images(images: Images) -> ImageQueue:
    """Return the images to send; files are not opened yet.

    A folder gives its images in the order of `folder.image_names`, named relative to it; a file is
    named as it was given. Raises InvalidRequestError where a collection has no images, and
    TypeError for what is no image (also for arrays: send files).
    """
    if isinstance(images, (str, Path)):
        return _queue_path(Path(images), str(images))
    if not isinstance(images, Collection):
        return ImageQueue(map(_as_image, images))
    listed = [_as_image(image) for image in images]
    if not listed:
        raise InvalidRequestError("There are no images to send.")
    return ImageQueue(listed, len(listed))


def queue_files(root: Path, names: Collection[str]) -> ImageQueue:
    """Return the files of these names below `root`, in this order."""
    files = (SentImage(name, (root / name).read_bytes) for name in names)
    return ImageQueue(files, len(names))


def _queue_path(path: Path, name: str) -> ImageQueue:
    if path.is_dir():
        return queue_files(path, image_names(path))
    return ImageQueue([SentImage(name, path.read_bytes)], 1)


def _as_image(image: Any) -> SentImage:
    if isinstance(image, SentImage):
        return image
    if isinstance(image, (str, Path)):
        return SentImage(str(image), Path(image).read_bytes)
    if isinstance(image, tuple) and len(image) == 2:
        name, content = image
        if isinstance(name, str) and isinstance(content, bytes):
            return SentImage(name, partial(bytes, content))
    raise TypeError(
        f"{type(image).__name__} is no image: give the path of an image file or a pair "
        "(name, bytes of an image file). Arrays can't be sent: encode them, e.g. as PNG."
    )
