"""From an encoded image to pixels; knows Pillow, not where images come from or go."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from .errors import ImageError

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF")
"""Pillow's names of what is decoded (a JPEG may be an MPO). EPS would run Ghostscript."""


@dataclass(frozen=True)
class EncodedImage:
    """One image as it arrived: its place in the request, the user's name for it, file bytes."""

    index: int
    name: str
    encoded: bytes
    keep_for: str | None = None
    """Whose room the file may take to be kept for later requests; None: it is not kept."""


@dataclass(frozen=True)
class KeptImage:
    """One image that the server keeps, by the SHA-256 of its file."""

    index: int
    name: str
    sha256: bytes


@dataclass(frozen=True)
class ServerImage:
    """One image of the server's image root, by its path."""

    index: int
    name: str
    path: str


@dataclass(frozen=True)
class ImageLimits:
    """What an image may at most be."""

    max_bytes: int
    max_pixels: int


_WIDE_MODES: Mapping[str, str] = {"F": "32-bit floating point", "I": "32-bit integers"}


class ImageDecoder:
    """Decodes images to RGB within limits."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        # Pillow's own limit is of the process and only warns at first; ours is checked instead.
        PillowImage.MAX_IMAGE_PIXELS = None
        PillowImage.init()

    def decode(self, image: EncodedImage) -> PillowImage.Image:
        """Return the image as Pillow's `convert('RGB')` gives it (of several frames, the first).

        Of grey with 16 bits the upper 8 are taken, as Pillow does with colours of 16 bits; its
        conversion would make all above 255 white. Wider pixels are refused: no file tells their
        range.
        """
        if len(image.encoded) > self._limits.max_bytes:
            limit = f"this server takes images of at most {self._limits.max_bytes:,} bytes"
            raise image_error(image, f"has {len(image.encoded):,} bytes; {limit}")
        try:
            with PillowImage.open(io.BytesIO(image.encoded), formats=FORMATS) as opened:
                self._check_pixels(image, opened.size)
                return self._rgb(image, opened)
        except UnidentifiedImageError:
            raise image_error(image, _why_unknown(image.encoded)) from None
        # Pillow's decoders report broken files by all of these.
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
            raise image_error(image, f"is broken: {error}") from error

    def _rgb(self, image: EncodedImage, opened: PillowImage.Image) -> PillowImage.Image:
        if opened.mode.startswith("I;16"):
            upper = (np.asarray(opened) >> 8).astype(np.uint8)
            return PillowImage.fromarray(upper).convert("RGB")
        if opened.mode in _WIDE_MODES:
            what = f"has pixels of {_WIDE_MODES[opened.mode]}, whose range no file tells"
            raise image_error(image, f"{what}: save it with 8 or 16 bits a channel")
        return opened.convert("RGB")

    def _check_pixels(self, image: EncodedImage, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > self._limits.max_pixels:
            limit = f"this server takes images of at most {self._limits.max_pixels:,} pixels"
            raise image_error(image, f"has {width} x {height} pixels; {limit}")


def _why_unknown(encoded: bytes) -> str:
    if not encoded:
        return "is empty (0 bytes)"
    return "is not a JPEG, PNG, TIFF, WebP, BMP or GIF image, or its header is broken"


class NumberedItem(Protocol):
    """What one request sends many of: its place in the request, and the user's name for it."""

    @property
    def index(self) -> int:
        """Its place, from 0."""

    @property
    def name(self) -> str:
        """The user's name for it."""


def image_error(image: NumberedItem, what: str) -> ImageError:
    """Return the error of one image, which it names, and what is wrong with it."""
    return ImageError(
        f"image {image.index} ({image.name!r}) {what}",
        field=f"image[{image.index}]",
        subject=image.name,
    )
