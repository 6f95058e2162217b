"""An image to send: its name, and its content, which is read only when it goes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ImageError, InvalidRequestError
from .headers import file_fault
from .postscript import read_image

MAX_IMAGE_BYTES = 63 * 1024 * 1024
"""Length of the largest image that fits a message, which has a name and an index beside it."""


class ImageContent:
    """What is sent of an image: bytes, or a string. Its SHA-256 is computed at most once."""

    def __init__(self, value: bytes | str) -> None:
        self.value = value
        self._sha256: bytes | None = None

    @property
    def data(self) -> bytes:
        """The bytes; those of a string are UTF-8."""
        return self.value.encode() if isinstance(self.value, str) else self.value

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the bytes."""
        # A cached_property would make threads wait for each other up to Python 3.11.
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).digest()
        return self._sha256


@dataclass(frozen=True)
class SentImage:
    """An image to send, or a text in its place.

    `read` returns what `kind`, a field of the contract's Image, holds: the bytes of a file
    (`encoded`), the values of an array of `shape` (`tensor`), or a string (`text`,
    `server_path`). It raises OSError if a file can't be read, and InvalidRequestError if values
    can't be sent. `look` returns what the header of a file says is wrong, without reading it all.
    """

    name: str
    read: Callable[[], ImageContent]
    kind: str = "encoded"
    shape: tuple[int, ...] | None = None
    look: Callable[[], str] | None = None

    @property
    def may_be_bad(self) -> bool:
        """Whether this is an image that others can do without, unlike a text or an input."""
        return self.kind in ("encoded", "server_path")

    def load(self) -> ImageContent:
        """Read the content, and check that it can be sent. Raises ImageError."""
        try:
            content = self.read()
            byte_count = len(content.data)
            self.name.encode()
        except OSError as error:
            raise self.error(f"can't be read: {error.strerror or error}") from error
        except UnicodeEncodeError as error:
            what = "is a text" if self.kind == "text" else "has a name"
            raise self.error(f"{what} that is not UTF-8: change it") from error
        except InvalidRequestError as error:
            raise self.error(str(error)) from error
        if byte_count > MAX_IMAGE_BYTES:
            raise self.error(f"has more than {MAX_IMAGE_BYTES} bytes: send a smaller one")
        return content

    def error(self, fault: str) -> ImageError:
        """Return an error that names this image and its fault."""
        return ImageError(f"{self._subject}{fault}.", subject=self.name)

    def fault_in(self, error: ImageError) -> str:
        """Return what an error of this image says is wrong, without naming the image."""
        return str(error).removeprefix(self._subject).removesuffix(".")

    @property
    def _subject(self) -> str:
        return f"Image {self.name!r} "


class ImageOfDataset:
    """What stands for an image of a dataset, and knows the image to send."""

    sent: SentImage

    @property
    def needs_preprocessing(self) -> bool:
        """Whether its dataset asks for other preprocessing than the model's own."""
        return False


class ImagesOfDataset:
    """What stands for several images of a dataset."""

    rows: Sequence[ImageOfDataset]


def file_image(name: str, path: Path) -> SentImage:
    """Return the image in a file, under a name."""
    return SentImage(
        name, partial(_read_file, path), look=partial(file_fault, path, MAX_IMAGE_BYTES)
    )


def hole(name: str, fault: str) -> SentImage:
    """Return an image that is known not to be usable: its place in its batch stays empty."""

    def read() -> ImageContent:
        raise InvalidRequestError(fault)

    return SentImage(name, read)


def server_image(path: str) -> SentImage:
    """Return an image of the server's image root, by its path there."""
    return SentImage(path, partial(ImageContent, path), "server_path")


def _read_file(path: Path) -> ImageContent:
    return ImageContent(read_image(path))
