"""Images of a request, and how their files are decoded to pixels with Pillow."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from .errors import ImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF")
"""Pillow's names of the accepted formats (a JPEG may be an MPO). EPS would run Ghostscript."""


@dataclass(frozen=True)
class EncodedImage:
    """One image as it arrived: its index in the request, the user's name for it, its file."""

    index: int
    name: str
    encoded: bytes
    keep_for: str | None = None
    """The client whose cache quota the file counts towards; None: do not cache it."""


@dataclass(frozen=True)
class KeptImage:
    """One image that the server has cached, by the SHA-256 of its file."""

    index: int
    name: str
    sha256: bytes


@dataclass(frozen=True)
class ServerImage:
    """One image below the server's image root, by its path."""

    index: int
    name: str
    path: str


@dataclass(frozen=True)
class NoImage:
    """The place of an image that its sender can't read."""

    index: int
    name: str


@dataclass(frozen=True)
class ImageLimits:
    """The maximum size of an image."""

    max_bytes: int
    max_pixels: int


_CHANNEL_COUNTS = (1, 3)

_WIDE_MODES: Mapping[str, str] = {"F": "32-bit floating point", "I": "32-bit integers"}


class ImageDecoder:
    """Decodes images to RGB within limits."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        # Pillow's own limit is per process and at first only warns; ours replaces it.
        PillowImage.MAX_IMAGE_PIXELS = None
        PillowImage.init()

    def decode(self, image: EncodedImage) -> PillowImage.Image:
        """Return the image as Pillow's `convert('RGB')` does (the first of several frames).

        For 16-bit greyscale, takes the upper 8 bits, as Pillow does for 16-bit colours; its own
        conversion would make every value above 255 white. Wider pixels are rejected, because files
        don't define their range.
        """
        if len(image.encoded) > self._limits.max_bytes:
            limit = f"this server accepts images of at most {self._limits.max_bytes:,} bytes"
            raise image_error(image, f"has {len(image.encoded):,} bytes; {limit}")
        try:
            with PillowImage.open(io.BytesIO(image.encoded), formats=FORMATS) as opened:
                self._check_pixels(image, opened.size)
                return self._rgb(image, opened)
        except UnidentifiedImageError:
            raise image_error(image, _why_unknown(image.encoded)) from None
        # Pillow's decoders raise any of these for broken files.
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            raise image_error(image, f"is broken: {error}") from error

    def _rgb(self, image: EncodedImage, opened: PillowImage.Image) -> PillowImage.Image:
        if opened.mode.startswith("I;16"):
            upper = (np.asarray(opened) >> 8).astype(np.uint8)
            return PillowImage.fromarray(upper).convert("RGB")
        if opened.mode in _WIDE_MODES:
            what = f"has pixels of {_WIDE_MODES[opened.mode]}, whose range the file does not define"
            raise image_error(image, f"{what}; save it with 8 or 16 bits per channel")
        return opened.convert("RGB")

    def _check_pixels(self, image: EncodedImage, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > self._limits.max_pixels:
            limit = f"this server accepts images of at most {self._limits.max_pixels:,} pixels"
            raise image_error(image, f"has {width} x {height} pixels; {limit}")


def _why_unknown(encoded: bytes) -> str:
    if not encoded:
        return "is empty (0 bytes)"
    return "is not a JPEG, PNG, TIFF, WebP, BMP or GIF image, or its header is broken"


class NumberedItem(Protocol):
    """An item of a request: its index, and the user's name for it."""

    @property
    def index(self) -> int:
        """Its index in the request, from 0."""

    @property
    def name(self) -> str:
        """The user's name for it."""


def image_error(image: NumberedItem, what: str) -> ImageError:
    """Return an error that names one image and says what is wrong with it."""
    return ImageError(
        f"{_naming(image)}{what}",
        field=f"image[{image.index}]",
        subject=image.name,
    )


def fault_of(image: NumberedItem, error: ImageError) -> str:
    """Return what an error says is wrong with an image, without naming the image."""
    return str(error).removeprefix(_naming(image))


def _naming(image: NumberedItem) -> str:
    return f"image {image.index} ({image.name!r}) "


def uniform_images(shape: tuple[int, ...]) -> list[Any]:
    """Return a black and a white image of Pillow, as large as an input of that shape."""
    height, width = shape[1:] if shape[0] in _CHANNEL_COUNTS else shape[:2]
    return [PillowImage.new("RGB", (width, height), (level,) * 3) for level in (0, 255)]
